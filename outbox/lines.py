"""Connections that scripts keep for themselves: one exchange costs a tenth of what a pipeline of the client does.

The client library opens them, but they are not of its pool while they live: taking a connection from it and giving it
back costs more than the exchange.
"""

import asyncio
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from outbox.line import Line, told
from runtime.connections import QuickConnection, StoreError

Argument = str | bytes | int | float
Command = tuple[Argument, ...]


class Lines:
    """As many connections as there are exchanges at once. They end with the client they come from."""

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._timeout: float | None = self._pool.connection_kwargs.get("socket_timeout")
        self._idle: list[Line | _LibraryLine] = []

    async def exchange(self, *commands: Command) -> list[Any]:
        """Send commands, read as many replies. An error of the queue's own is its reply; QueueLost is one of them.

        Raises ConnectionError or TimeoutError when the outcome of all is unknown; connecting counts as well.
        """
        if not commands:
            return []
        octets = b"".join(map(hiredis.pack_command, commands))  # type: ignore[arg-type]  # its stub knows one word only
        line = self._idle.pop() if self._idle else None
        if line is None or line.is_lost:
            line = await self._another(line)
        try:
            answers = await line.exchange(octets, len(commands))
        except BaseException as failure:
            line.end(failure if isinstance(failure, StoreError) else ConnectionError("given up"))
            await self._give_back(line)
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

    async def _another(self, lost: "Line | _LibraryLine | None") -> "Line | _LibraryLine":
        """An idle line, or a new one, in place of the lost one."""
        while lost is not None:
            await self._give_back(lost)
            line = self._idle.pop() if self._idle else None
            if line is not None and not line.is_lost:
                return line
            lost = line
        async with asyncio.timeout(self._timeout):
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        kind = Line if isinstance(connection, QuickConnection) else _LibraryLine
        return kind(connection, timeout=self._timeout)

    async def _give_back(self, line: "Line | _LibraryLine") -> None:
        await line.connection.disconnect(nowait=True)
        await self._pool.release(line.connection)


class _LibraryLine:
    """The same over a connection that cannot be handed over: over TLS, by a Unix socket, or a test's fake."""

    is_lost = False  # found out, and mended, by the next exchange

    def __init__(self, connection: AbstractConnection, *, timeout: float | None) -> None:
        connection.socket_timeout = None  # the time of the whole exchange is kept here
        self.connection = connection
        self._timeout = timeout

    async def exchange(self, octets: bytes, number: int) -> list[Any]:
        line = self.connection
        async with asyncio.timeout(self._timeout):
            if not line.is_connected or await line.can_read():  # it was closed, or cannot be trusted
                await line.disconnect(nowait=True)
                await line.connect()  # type: ignore[no-untyped-call]
            await line.send_packed_command(octets, check_health=False)
            return [await self._answer() for _ in range(number)]

    async def _answer(self) -> Any:
        try:
            return await self.connection.read_response(disconnect_on_error=False)
        except ResponseError as refusal:
            return told(refusal)

    def end(self, _failure: Exception) -> None:
        """It is closed where it is given back."""
        self.connection.socket_timeout = self._timeout
