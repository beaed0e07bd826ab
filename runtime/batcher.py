"""Concurrent calls of one event-loop turn share one round trip."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, cast

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Collects what is submitted while earlier batches are on the way; at most `lanes` are at once.

    `flush` gets a batch and returns a reply, or an exception, for each of its items; if it raises, all get that.
    A batch ends at `most` items or once its items weigh `heavy` together. A submitter that is cancelled leaves its
    item in the batch.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Any]]],
        *,
        lanes: int = 4,
        most: int = 64,
        heavy: int = 1_000_000,
        weight: Callable[[Item], int] = lambda _: 0,
    ) -> None:
        self._flush = flush
        self._lanes = lanes
        self._most = most
        self._heavy = heavy
        self._weight = weight
        self._waiting: list[tuple[Item, asyncio.Future[Any]]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._is_beginning = False  # one of them has not had its turn yet, and takes what comes until then

    def submit(self, item: Item) -> asyncio.Future[Any]:
        """The reply to this item, to be awaited."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, reply))
        self._begin()
        return reply

    def fail_waiting(self, error: Exception) -> None:
        """Answer all that is not yet on its way with this error."""
        for _, reply in self._waiting:
            _resolve(reply, error)
        self._waiting.clear()

    async def drained(self) -> None:
        """Return once all that was submitted is answered."""
        while self._running:
            await asyncio.wait(self._running)

    def _begin(self) -> None:
        """Open one more lane. It gets its turn when the calls of this one have joined."""
        if not self._is_beginning and len(self._running) < self._lanes:
            self._is_beginning = True
            self._running.add(asyncio.create_task(self._run()))

    async def _run(self) -> None:
        try:
            if len(self._running) > 1:  # there is load: the calls of one more turn join, as larger batches cost less
                await asyncio.sleep(0)
            self._is_beginning = False
            await self._flush_all()
        finally:
            # Now, and not in a callback a turn later: who submits in between would think that somebody is at work.
            self._running.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _flush_all(self) -> None:
        while self._waiting:
            batch = self._take()
            if self._waiting:
                self._begin()
            replies: Sequence[Any]
            try:
                replies = await self._flush([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001  (handed to every submitter)
                replies = [error] * len(batch)
            for (_, waiting), reply in zip(batch, replies, strict=True):
                _resolve(waiting, reply)

    def _take(self) -> list[tuple[Item, asyncio.Future[Any]]]:
        weight = taken = 0
        for item, _ in self._waiting[: self._most]:
            weight += self._weight(item)
            taken += 1
            if weight > self._heavy:
                break
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return batch


def _resolve(waiting: asyncio.Future[Any], reply: Any) -> None:
    if waiting.done():
        return
    if isinstance(reply, Exception):
        waiting.set_exception(reply)
    else:
        waiting.set_result(reply)
