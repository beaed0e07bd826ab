"""Runs the Lua scripts: EVALSHA, with a reload where the server has forgotten them (it restarted)."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from outbox.errors import QueueLost
from outbox.generation import Memory
from runtime.batcher import Batcher
from runtime.settings import Settings

Argument = str | bytes | int | float
Call = tuple[str, Sequence[Argument]]


@cache
def source(name: str) -> tuple[str, str]:
    """(text, SHA-1) of a script with the shared prelude in front."""
    folder = resources.files("outbox") / "lua"
    text = (folder / "_prelude.lua").read_text() + (folder / f"{name}.lua").read_text()
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """Calls by name, alone or many in one round trip. All keys hang under one prefix, which is also the hash tag."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._memory = Memory(settings)
        self.prefix = f"{{{settings.queue_prefix}}}"
        self._batcher: Batcher[Call] = Batcher(self.pipeline)

    async def call(self, name: str, *arguments: Argument) -> Any:
        """One script's reply; concurrent calls share a round trip. Raises what the script or the way to it raised."""
        return await self._batcher.submit((name, arguments))

    async def pipeline(self, calls: Sequence[Call]) -> list[Any]:
        """Replies in order, one round trip. A script that failed has its ResponseError as reply.

        QueueLost is one of them: this is not the queue that the machine remembers, and nothing was done.
        Raises ConnectionError or TimeoutError when the outcome of all is unknown.
        """
        replies = await self._send(calls)
        forgotten = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:
            for name in {calls[at][0] for at in forgotten}:
                await self._redis.script_load(source(name)[0])
            again = await self._send([calls[at] for at in forgotten])
            for at, reply in zip(forgotten, again, strict=True):
                replies[at] = reply
        return replies

    async def _send(self, calls: Sequence[Call]) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        keys = self._memory.script_keys
        for name, arguments in calls:
            pipe.execute_command("EVALSHA", source(name)[1], *keys, *arguments)
        replies: list[Any] = [_told(reply) for reply in await pipe.execute(raise_on_error=False)]
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
                raise reply
        return replies


def run(redis: BlockingRedis, settings: Settings, name: str, *arguments: Argument) -> Any:
    """One script's reply, for blocking code. Raises QueueLost, and what the way to it raises."""
    try:
        return redis.eval(source(name)[0], *Memory(settings).script_keys, *arguments)  # type: ignore[arg-type]
    except ResponseError as refusal:
        raise _told(refusal) from None


def _told(reply: Any) -> Any:
    lost = type(reply) is ResponseError and str(reply).startswith("LOST")
    return QueueLost(str(reply)) if lost else reply
