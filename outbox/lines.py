"""Connections that scripts keep for themselves: one exchange costs a fifth of what a pipeline of the client does.

The client library's connections and its parser, but not its pool: taking a connection from it and giving it back costs
more than the exchange, and each of its timeouts a timer of its own.
"""

import asyncio
from typing import Any

import hiredis
from redis.asyncio import Connection, Redis
from redis.exceptions import ResponseError

from outbox.errors import QueueLost

Argument = str | bytes | int | float
Command = tuple[Argument, ...]


class Lines:
    """As many connections as there are exchanges at once. They end with the client they come from."""

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._timeout: float | None = self._pool.connection_kwargs.get("socket_timeout")
        self._idle: list[Connection] = []

    async def exchange(self, *commands: Command) -> list[Any]:
        """Send commands, read as many replies. An error of the queue's own is its reply; QueueLost is one of them.

        Raises ConnectionError or TimeoutError when the outcome of all is unknown; connecting counts as well.
        """
        octets = b"".join(map(hiredis.pack_command, commands))  # type: ignore[arg-type]  # its stub knows one word only
        line: Connection | None = self._idle.pop() if self._idle else None
        try:
            async with asyncio.timeout(self._timeout):
                if line is None:
                    line = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                line.socket_timeout = None  # the time of the whole exchange is kept here
                if not line.is_connected or await line.can_read():  # it was closed, or cannot be trusted
                    await self._pool.ensure_connection(line)
                await line.send_packed_command(octets, check_health=False)
                answers = []
                for _ in commands:
                    try:
                        answers.append(await line.read_response(disconnect_on_error=False))
                    except ResponseError as refusal:
                        answers.append(told(refusal))
        except BaseException:
            if line is not None:
                line.socket_timeout = self._timeout
                await line.disconnect(nowait=True)
                await self._pool.release(line)
            raise
        self._idle.append(line)
        return answers

    async def ask(self, *commands: Command) -> list[Any]:
        """The same; raises what the queue refuses."""
        answers = await self.exchange(*commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


def told(refusal: ResponseError) -> ResponseError:
    """What the queue said; QueueLost where a script said that it lost its memory."""
    lost = type(refusal) is ResponseError and str(refusal).startswith("LOST")
    return QueueLost(str(refusal)) if lost else refusal
