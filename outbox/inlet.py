"""Puts accepts into the queue: all that arrive within one event-loop turn share a call, behind a breaker.

While the breaker is open nothing waits for the queue; a write in the background each `pause` closes it again, so that
no client's request pays for finding out. A queue that answers and is ill (full, read-only, busy) opens it too: a ping
would pass there.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from outbox.entry import Entry, FirstUse
from outbox.errors import ObjectsUnavailable
from outbox.large_inlet import LargeInlet
from outbox.queue import Outbox
from runtime import clock
from runtime.batcher import Batcher
from runtime.connections import StoreError, passes
from runtime.logs import get
from runtime.tasks import end

log = get(__name__)

_MESSAGE_WEIGHT = 2_000  # what a message weighs beside its content
CALL_WEIGHT = 500_000  # about a batch of a hundred mails, which takes the queue some milliseconds


def weight(entry: Entry) -> int:
    """Bytes that it weighs in a call."""
    return entry.size + _MESSAGE_WEIGHT * len(entry.submissions)


class Unconfirmed(Exception):
    """The queue did not confirm: it may or may not have the entry."""


class Inlet:
    """One per process."""

    def __init__(
        self,
        outbox: Outbox,
        redis: Redis,
        *,
        timeout: timedelta,
        pause: timedelta = timedelta(milliseconds=100),
        has_room: Callable[[], bool] = lambda: False,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._outbox = outbox
        self.large = LargeInlet(outbox.blobs)
        self.redis = redis
        self._timeout = timeout.total_seconds()
        self._pause = pause.total_seconds()
        self._has_room = has_room  # whether the queue's memory need not be saved
        self._now = now
        self._batcher: Batcher[Entry] = Batcher(self._append, weight=weight, heavy=CALL_WEIGHT)
        self._trial: asyncio.Task[None] | None = None
        self._well = asyncio.Event()
        self._well.set()

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open: the last append failed and no trial has worked since."""
        return self._trial is not None

    async def well(self) -> None:
        """Return once the breaker is closed."""
        await self._well.wait()

    async def put(self, entry: Entry) -> FirstUse | None:
        """Append the entry. A FirstUse means its idempotency key was known and nothing was appended.

        Raises Unconfirmed, or the queue's ResponseError when it refused.
        """
        if self.is_open:
            raise Unconfirmed
        if large := entry.large:
            try:
                await self.large.put(large)
            except ObjectsUnavailable as failure:
                raise Unconfirmed from failure
        verdict, value = await self._batcher.submit(entry)
        return FirstUse.decode(value) if verdict == b"replayed" else None

    async def put_all(self, entries: Sequence[Entry]) -> list[Any]:
        """Append entries without keys and large contents in one call; for each an Exception if it is not in the queue.

        Either may stand there that `put` raises.
        """
        if self.is_open:
            return [Unconfirmed()] * len(entries)
        try:
            return await self._append(entries)
        except (Unconfirmed, ResponseError) as failure:
            return [failure] * len(entries)

    async def first_use(self, key_hash: str) -> FirstUse | None:
        """What an idempotency key was used for; None if for nothing, or nobody can say now."""
        if self.is_open:
            return None
        try:
            async with asyncio.timeout(self._timeout):
                used = await self._outbox.first_use(key_hash)
        except StoreError:
            return None
        return FirstUse.decode(used) if used else None

    async def stop(self) -> None:
        """End the background trial."""
        self.large.stop()
        await end(self._trial)

    async def _append(self, entries: Sequence[Entry]) -> list[Any]:
        now, has_room = self._now(), self._has_room()
        try:
            replies = await self._outbox.append([entry.arguments(now, has_room=has_room) for entry in entries])
        except StoreError as failure:
            self._trip(failure)
            raise Unconfirmed from failure
        return [self._judged(reply) if isinstance(reply, Exception) else reply for reply in replies]

    def _judged(self, refusal: Exception) -> Exception:
        if not passes(refusal):
            return refusal
        self._trip(refusal)
        return Unconfirmed()

    def _trip(self, failure: BaseException) -> None:
        self._batcher.fail_waiting(Unconfirmed())
        if self._trial is None:
            log.error("queue.lost", error=f"{type(failure).__name__}: {failure}"[:200])
            self._well.clear()
            self._trial = asyncio.create_task(self._try_until_well())

    async def _try_until_well(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            try:
                async with asyncio.timeout(self._timeout):
                    await self.redis.ping()  # readers' connections, not those of scripts: a dead one is replaced
                    await self._outbox.probe()
            except StoreError:
                continue
            self._trial = None
            self._well.set()
            log.info("queue.back")
            return
