"""One connection to the queue that is asked, and answers; the client library only opens and closes it.

Between that, commands and replies go straight over the transport: a reply wakes who waits for it. The library's own way
leads through a stream, a parser's loop and a time limit for each, which is a twentieth of a lone mail's time.
"""

import asyncio
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from outbox.errors import QueueLost
from runtime.connections import INCOMPLETE, QuickConnection


class Line(asyncio.Protocol):
    """One exchange at a time. A lost line never comes back; its connection may, by way of the pool."""

    def __init__(self, connection: QuickConnection, *, timeout: float | None) -> None:
        """`timeout`: seconds that all replies of an exchange may take; None waits for ever."""
        self.connection = connection
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._waiter: asyncio.Future[list[Any]] | None = None
        self._answers: list[Any] = []
        self._missing = 0  # answers that are yet to come
        self._failure: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None  # one for all exchanges: it finds out when it rings
        self._due = 0.0
        self._transport, self._former, self._reader = connection.hand_over(self)

    @property
    def is_lost(self) -> bool:
        """Whether nothing more will come."""
        return self._failure is not None

    def exchange(self, octets: bytes, number: int) -> asyncio.Future[list[Any]]:
        """Send so many commands; their replies, in order. What the queue refuses stands there as its error.

        The future fails with ConnectionError or TimeoutError when the outcome of all is unknown. Who gives up waiting
        has to end the line.
        """
        self._waiter, self._answers, self._missing = self._loop.create_future(), [], number
        self._transport.write(octets)
        if self._failure is not None:
            self._waiter.set_exception(self._failure)
        elif self._timeout is not None:
            self._due = self._loop.time() + self._timeout
            if self._timer is None:
                self._timer = self._loop.call_at(self._due, self._ring)
        return self._waiter

    def end(self, failure: Exception) -> None:
        """Nothing more is asked, and who waits is told why."""
        if self._failure is None:
            self._failure = failure
            self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(self._failure)

    # What the transport calls

    def data_received(self, data: bytes) -> None:
        """Some of what was asked for, or of what nobody asked for."""
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not INCOMPLETE:
                self._take(answer)
        except Exception as failure:  # noqa: BLE001  (a reply that is none, or a queue that cannot be asked: who waits is told)
            self.end(failure)
            return
        waiter = self._waiter
        if not self._missing and waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(self._answers)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone. The library's protocol is told too: a close waits for that."""
        self._former.connection_lost(error)
        self.end(RedisConnectionError("the queue closed the connection"))

    def _take(self, answer: Any) -> None:
        if isinstance(answer, hiredis.PushNotification):
            return
        if not self._missing:
            raise RedisConnectionError("an answer to nothing")
        if isinstance(answer, ResponseError):
            answer = told(answer)
        elif isinstance(answer, Exception):
            raise answer
        self._answers.append(answer)
        self._missing -= 1

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._due:  # it was set for an earlier exchange
            self._timer = self._loop.call_at(self._due, self._ring)
        else:
            self.end(TimeoutError("no answer from the queue"))


def told(refusal: ResponseError) -> ResponseError:
    """What the queue said; QueueLost where a script said that it lost its memory."""
    lost = type(refusal) is ResponseError and str(refusal).startswith("LOST")
    return QueueLost(str(refusal)) if lost else refusal
