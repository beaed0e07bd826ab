"""Connections to the queue. A connection whose command timed out is closed, never reused: its reply may still come."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, ResponseError
from redis.retry import Retry

from runtime.settings import Settings

# Our own code decides what is safe to repeat, so the client never does.
_NEVER = 0
_CONNECT = 1.0  # seconds to connect, for those who would wait longer than that for a reply

StoreError = (redis.RedisError, OSError, TimeoutError)
"""What a command can raise when the store, or the way to it, is ill."""

_ILL_WORDS = ("BUSY ", "MISCONF ", "NOREPLICAS ", "MASTERDOWN ", "CLUSTERDOWN ")  # of refusals without a class


def passes(error: object) -> bool:
    """Whether it is the trouble of the store or the way to it, which passes, and not of what was asked.

    A store that is full, read-only or busy refuses everybody, in words of its own.
    """
    if type(error) is ResponseError:
        return str(error).startswith(_ILL_WORDS)
    return isinstance(error, StoreError)


INCOMPLETE = object()
"""What a reader gives while the next reply is not there whole."""


class QuickConnection(redis.asyncio.Connection):
    """Packs commands in C, as redis-py itself does in blocking code: in Python it is a third of the cost of a call.

    Once it is open it can be handed over to who reads and writes with less ado (outbox/line.py).
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        """One command as it goes over the wire."""
        words = args[0].split() if isinstance(args[0], str) else [args[0]]  # "SCRIPT LOAD" is two words on the wire
        return [hiredis.pack_command((*words, *args[1:]))]

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Several in one piece."""
        return [b"".join([self.pack_command(*command)[0] for command in commands])]

    def hand_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, asyncio.Protocol, hiredis.Reader]:
        """From now on `protocol` has what comes. The transport, which writes at once; who had it before; a reader.

        Whoever had it before has to be told of the connection's loss. Replies that are refusals are exceptions.
        """
        if self._writer is None:
            raise RuntimeError("not connected")
        transport = cast("asyncio.Transport", self._writer.transport)
        former = cast("asyncio.Protocol", transport.get_protocol())
        transport.set_protocol(protocol)
        transport.set_write_buffer_limits(0)  # else uvloop writes at the end of its turn
        reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=self._parser.parse_error,
            notEnoughData=INCOMPLETE,
        )
        return transport, former, reader


def redis_async(settings: Settings, *, timeout: float | None = None) -> redis.asyncio.Redis:
    """A client for an event loop. `timeout` bounds each reply, in seconds; None waits for ever (blocking pops).

    Connecting is bounded by it too, and by a second.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        connection_class=QuickConnection,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout or _CONNECT, _CONNECT),
        retry=AsyncRetry(NoBackoff(), _NEVER),
        max_connections=32,
    )
    return redis.asyncio.Redis.from_pool(pool)


def redis_sync(settings: Settings, *, timeout: float | None = 5.0) -> redis.Redis:
    """A client for blocking code. `timeout` bounds each reply, in seconds."""
    return redis.Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=timeout,
        socket_connect_timeout=_CONNECT,
        retry=Retry(NoBackoff(), _NEVER),
    )
