"""Opens and clicks on their way into the events: in small batches, behind the answer, and never more than a budget.

They are told for information. What comes while the queue is away, or beyond the budget, is counted and forgotten: no
mail waits for it, and no reader of a mail sees an error.
"""

import asyncio
from collections import deque
from itertools import islice

from prometheus_client import Counter
from redis.asyncio import Redis

from outbox import events
from outbox.lines import Argument
from outbox.scripts import Scripts
from outbox.tracking import Tracked
from runtime import clock
from runtime.connections import StoreError
from runtime.logs import get
from runtime.settings import Settings
from runtime.tasks import end

log = get(__name__)

HITS = Counter("nightmail_tracking_hits_total", "Opens and clicks of tracked mail, by what became of them", ["result"])

MOST = 100  # of a kind are recorded per message and day: behind one link that was made public there may be thousands
_DAY = 86_400  # seconds
_GATHER = 0.2  # seconds between two batches
_LAST = 1.0  # seconds at the end of the process
_AT_ONCE = 100
_WAITING = 5_000  # hits in memory
_LONGEST_AGENT = 256

Hit = tuple[str, str, bytes]  # message id, kind, event


class Hits:
    """One per process: at most 500 hits a second go to the queue, on connections of their own."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._scripts = Scripts(redis, settings)
        self._pause = _GATHER
        self._waiting: deque[Hit] = deque()
        self._sending: asyncio.Task[None] | None = None

    def opened(self, tracked: Tracked, *, user_agent: str) -> None:
        """Note an opening. Returns at once."""
        event = events.opened(tracked, at=clock.now(), user_agent=user_agent[:_LONGEST_AGENT])
        self._note((tracked.message_id, "opened", event))

    def clicked(self, tracked: Tracked, link: str, *, ip_address: str, user_agent: str) -> None:
        """Note a click. Returns at once."""
        agent = user_agent[:_LONGEST_AGENT]
        event = events.clicked(tracked, link, at=clock.now(), ip_address=ip_address, user_agent=agent)
        self._note((tracked.message_id, "clicked", event))

    async def stop(self) -> None:
        """Send what waits, if the queue takes it soon."""
        self._pause = 0.0
        if self._sending and not self._sending.done():
            await asyncio.wait([self._sending], timeout=_LAST)
            await end(self._sending)

    def _note(self, hit: Hit) -> None:
        if len(self._waiting) >= _WAITING:
            HITS.labels("lost").inc()
            return
        self._waiting.append(hit)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._pause)
            await self._send()

    async def _send(self) -> None:
        batch = list(islice(self._waiting, _AT_ONCE))
        for _ in batch:
            self._waiting.popleft()
        arguments: list[Argument] = [word for hit in batch for word in hit]
        try:
            recorded = await self._scripts.call("hits", MOST, _DAY, len(batch), *arguments)
        except StoreError as failure:
            HITS.labels("lost").inc(len(batch))
            log.warning("hits.lost", count=len(batch), error=f"{type(failure).__name__}: {failure}"[:200])
            return
        HITS.labels("recorded").inc(sum(recorded))
        HITS.labels("over").inc(len(batch) - sum(recorded))
