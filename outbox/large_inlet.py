"""Puts large contents beside the queue (outbox/blobs.py) before the queue may know of them, in threads of its own.

A store that fails or hangs is left alone for a while: then the journal alone takes large messages, and nobody waits.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial

from outbox.blobs import LARGE, Blobs, digest_of
from outbox.entry import Submission
from outbox.errors import ObjectsUnavailable
from runtime.logs import get

log = get(__name__)

_THREADS = 4  # those that hang in a sick store hold up no other work
_PATIENCE = 2.0  # seconds for a store to answer at all
_BYTES_PER_SECOND = 10_000_000  # what a slow but healthy store must take
_PAUSE = 2.0  # seconds until a sick one is tried again


class LargeInlet:
    """One per process that accepts."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="blobs")
        self._free = asyncio.Semaphore(_THREADS)  # those that hang are not: nothing piles up behind them
        self._sick_until = 0.0

    async def named(self, submissions: Sequence[Submission]) -> Sequence[Submission]:
        """The same, with the hash of each content that is to lie beside the queue."""
        if not self._blobs.enabled or all(len(s.content) <= LARGE for s in submissions):
            return submissions
        return [await self._named(s) if len(s.content) > LARGE else s for s in submissions]

    async def _named(self, submission: Submission) -> Submission:
        digest = await asyncio.to_thread(digest_of, submission.content)
        return replace(submission, message=replace(submission.message, blob=digest))

    async def put(self, submissions: Sequence[Submission]) -> None:
        """Make their contents durable. Raises ObjectsUnavailable."""
        if time.monotonic() < self._sick_until:
            raise ObjectsUnavailable("the store of large contents was sick a moment ago")
        limit = _PATIENCE + sum(len(s.content) for s in submissions) / _BYTES_PER_SECOND
        try:
            async with asyncio.timeout(limit):
                for each in submissions:
                    await self._put(each)
        except (TimeoutError, ObjectsUnavailable) as failure:
            self._sick_until = time.monotonic() + _PAUSE
            log.error("blobs.unavailable", error=f"{type(failure).__name__}: {failure}"[:200])
            raise ObjectsUnavailable("large contents cannot be stored now") from failure

    async def _put(self, submission: Submission) -> None:
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        work = self._threads.submit(self._blobs.put, submission.message, submission.content)
        work.add_done_callback(partial(_tell, loop, self._free.release))
        await asyncio.wrap_future(work)

    def stop(self) -> None:
        """Wait for nothing that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None], _work: Future[None]) -> None:
    with suppress(RuntimeError):  # the loop has ended before the work did
        loop.call_soon_threadsafe(what)
