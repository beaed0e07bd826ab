"""Puts accepts into the queue: all that arrive within one event-loop turn share a round trip, behind a breaker.

While the breaker is open nothing waits for the queue; a background ping each `pause` closes it again, so that no
client's request pays for finding out.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from outbox.entry import Entry, FirstUse
from outbox.queue import Outbox
from runtime import clock
from runtime.connections import StoreError
from runtime.logs import get

log = get(__name__)

_BATCH_ENTRIES = 64
_BATCH_BYTES = 1_000_000
_LARGE_BYTES_PER_SECOND = 20_000_000  # what a slow but healthy queue must still take of large contents


class Unconfirmed(Exception):
    """The queue did not confirm: it may or may not have the entry."""


class Inlet:
    """One per process. Batches are formed from whatever waits; up to `lanes` of them are on the way at once."""

    def __init__(
        self,
        outbox: Outbox,
        redis: Redis,
        *,
        timeout: timedelta,
        pause: timedelta = timedelta(milliseconds=100),
        now: Callable[[], datetime] = clock.now,
        lanes: int = 4,
    ) -> None:
        self._outbox = outbox
        self.redis = redis
        self._timeout = timeout.total_seconds()
        self._pause = pause.total_seconds()
        self._now = now
        self._lanes = lanes
        self._waiting: list[tuple[Entry, asyncio.Future[Any]]] = []
        self._flushing: set[asyncio.Task[None]] = set()
        self._trial: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open: the last append failed and no ping has worked since."""
        return self._trial is not None

    async def put(self, entry: Entry) -> FirstUse | None:
        """Append the entry. A FirstUse means its idempotency key was known and nothing was appended.

        Raises Unconfirmed, or the queue's ResponseError when it refused.
        """
        if self.is_open:
            raise Unconfirmed
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, answer))
        if len(self._flushing) < self._lanes:
            self._flush()
        verdict, value = await answer
        return FirstUse.decode(value) if verdict == b"replayed" else None

    async def stop(self) -> None:
        """End the background ping."""
        if self._trial:
            self._trial.cancel()

    def _flush(self) -> None:
        task = asyncio.create_task(self._send_all())
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)

    async def _send_all(self) -> None:
        await asyncio.sleep(0)  # let the accepts of this turn join
        while self._waiting:
            batch = self._take()
            try:
                limit = self._timeout + sum(entry.size for entry, _ in batch) / _LARGE_BYTES_PER_SECOND
                async with asyncio.timeout(limit):
                    replies = await self._outbox.append([entry.arguments(self._now()) for entry, _ in batch])
            except StoreError as failure:
                self._trip(failure)
                replies = [Unconfirmed()] * len(batch)
            for (_, answer), reply in zip(batch, replies, strict=True):
                _resolve(answer, reply)

    def _take(self) -> list[tuple[Entry, asyncio.Future[Any]]]:
        size = taken = 0
        for entry, _ in self._waiting[:_BATCH_ENTRIES]:
            size += entry.size
            taken += 1
            if size > _BATCH_BYTES:
                break
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch

    def _trip(self, failure: BaseException) -> None:
        for _, answer in self._waiting:
            _resolve(answer, Unconfirmed())
        self._waiting.clear()
        if self._trial is None:
            log.error("queue.lost", error=f"{type(failure).__name__}: {failure}"[:200])
            self._trial = asyncio.create_task(self._ping_until_back())

    async def _ping_until_back(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            try:
                async with asyncio.timeout(self._timeout):
                    await self.redis.ping()
            except StoreError:
                continue
            self._trial = None
            log.info("queue.back")
            return


def _resolve(answer: asyncio.Future[Any], reply: Any) -> None:
    if answer.done():
        return
    if isinstance(reply, Exception):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)


__all__ = ["Inlet", "ResponseError", "Unconfirmed"]
