"""Runs the Lua scripts: EVALSHA, with a reload where the server has forgotten them (it restarted)."""

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from outbox.generation import Memory
from outbox.line import told
from outbox.lines import Argument, Lines
from runtime.batcher import Batcher
from runtime.settings import Settings

Call = tuple[str, Sequence[Argument]]


@cache
def source(name: str) -> tuple[str, str]:
    """(text, SHA-1) of a script, behind what it needs of the shared prelude: every call makes all functions in it."""
    folder = resources.files("outbox") / "lua"
    text = (folder / f"{name}.lua").read_text()
    for part in reversed(re.split(r"^(?=local )", (folder / "_prelude.lua").read_text(), flags=re.MULTILINE)):
        defined = re.match(r"local (?:function )?(\w+)", part)
        # A local is known behind its definition only, so what is kept by now names all that it needs of earlier parts.
        if not defined or "KEYS[" in part or re.search(rf"\b{defined[1]}\b", text):
            text = part + text
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """Calls by name, alone or many in one round trip. All keys hang under one prefix, which is also the hash tag."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self.lines = Lines(redis)  # for other commands too: the line that a script has just used is a good one
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
        keys = self._memory.script_keys
        return await self.lines.exchange(*(("EVALSHA", source(name)[1], *keys, *words) for name, words in calls))


def run(redis: BlockingRedis, settings: Settings, name: str, *arguments: Argument) -> Any:
    """One script's reply, for blocking code. Raises QueueLost, and what the way to it raises."""
    text, digest = source(name)
    keys = Memory(settings).script_keys
    try:
        try:
            return redis.evalsha(digest, *keys, *arguments)  # type: ignore[arg-type]
        except NoScriptError:
            return redis.eval(text, *keys, *arguments)  # type: ignore[arg-type]
    except ResponseError as refusal:
        raise told(refusal) from None
