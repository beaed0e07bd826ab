"""Both stores at once, for all accepts of an event-loop turn: one write and one fdatasync beside one call of the queue.

One of the two is enough for a yes; the other's illness is an alarm. What the queue did not confirm bears no mark in
the journal (outbox/confirmed.py), and is put into the queue later (outbox/reinject.py).
"""

import asyncio
from collections.abc import Awaitable, Sequence

from prometheus_client import Counter
from redis.exceptions import ResponseError

from outbox.confirmed import Confirmed
from outbox.entry import Entry
from outbox.errors import Unavailable
from outbox.inlet import CALL_WEIGHT, Inlet, weight
from outbox.journal import LARGE, PATIENCE, Journal, Place
from outbox.reinject import Reinjector
from runtime.batcher import Batcher
from runtime.logs import get

log = get(__name__)

_LANES = 2  # groups on their way at once: the next gathers meanwhile, and larger ones cost less

ACCEPTED = Counter("nightmail_accepted_messages_total", "Messages accepted, by where they were durable", ["stores"])
IN_BOTH, IN_QUEUE, IN_JOURNAL = map(ACCEPTED.labels, ("both", "queue", "journal"))


class BothStores:
    """One per process."""

    def __init__(self, inlet: Inlet, journal: Journal, reinjector: Reinjector) -> None:
        self._inlet = inlet
        self._journal = journal
        self._reinjector = reinjector
        self._confirmed = Confirmed(journal)
        self._batcher: Batcher[Entry] = Batcher(self._append_all, weight=weight, heavy=CALL_WEIGHT, lanes=_LANES)

    def takes(self, entry: Entry) -> bool:
        """Whether it may go this way. Only the queue can say whether a key is a repeat; large contents go before it."""
        return not (entry.key_hash or entry.large or entry.size > LARGE or self._inlet.is_open)

    def append(self, entry: Entry) -> Awaitable[None]:
        """Wait until it is durable. Raises Unavailable. A caller that is cancelled does not stop it."""
        return self._batcher.submit(entry)

    async def close(self) -> None:
        """After the last append: let those under way end."""
        await self._batcher.drained()
        await self._confirmed.close()

    async def _append_all(self, entries: Sequence[Entry]) -> list[Unavailable | None]:
        places: Sequence[Place | None]
        try:
            places, synced = self._journal.begin([entry.record(confirmed=False) for entry in entries])
        except OSError as failure:
            places, synced = [None] * len(entries), _failed(failure)
        replies = await self._inlet.put_all(entries)
        in_queue = not any(isinstance(reply, Exception) for reply in replies)
        try:
            async with asyncio.timeout(PATIENCE if in_queue else None):  # a disk that hangs keeps nobody waiting
                await asyncio.shield(synced)
        except OSError as failure:  # TimeoutError is one
            log.error("accept.journal_failed", error=str(failure))
            places = [None] * len(entries)
        return [self._ended(*one) for one in zip(entries, replies, places, strict=True)]

    def _ended(self, entry: Entry, reply: object, place: Place | None) -> Unavailable | None:
        """`place` is where it lies in the journal, on the disk."""
        if not isinstance(reply, Exception):
            self._confirmed.add(entry.ids)
            (IN_BOTH if place else IN_QUEUE).inc(len(entry.ids))
        elif place:
            if isinstance(reply, ResponseError):  # it is well and refuses this one
                log.warning("accept.queue_refused", error=str(reply)[:100])
            self._reinjector.add(place)
            IN_JOURNAL.inc(len(entry.ids))
        else:
            log.error("accept.no_store", error=str(reply))
            return Unavailable("no store can take messages now")
        return None


def _failed(failure: OSError) -> asyncio.Future[None]:
    """The fdatasync of a write that failed."""
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(failure)
    return failed
