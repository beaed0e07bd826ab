"""Both stores at once, for all accepts of an event-loop turn: one write and one fdatasync beside one call of the queue.

One of the two is enough for a yes; the other's illness is an alarm. What the queue did not confirm bears no mark in
the journal (outbox/confirmed.py), and is put into the queue later (outbox/reinject.py).
"""

import asyncio
from collections.abc import Awaitable, Sequence

from redis.exceptions import ResponseError

from outbox.confirmed import Confirmed
from outbox.entry import Entry
from outbox.errors import Unavailable
from outbox.inlet import CALL_WEIGHT, Inlet, weight
from outbox.journal import LARGE, PATIENCE, Journal, Place
from outbox.reinject import Reinjector
from runtime.batcher import Batcher
from runtime.logs import get
from runtime.tally import Tally

log = get(__name__)

_LANES = 2  # groups on their way at once: the next gathers meanwhile, and larger ones cost less

ACCEPTED = Tally(
    "nightmail_accepted_messages_total",
    "Messages accepted, by where they were durable",
    "stores",
    known=("both", "queue", "journal"),
)


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
        places, synced = self._begin(entries)  # first: while the queue works, its own flush is yet to come
        replies = await self._inlet.put_all(entries)
        in_queue = not any(isinstance(reply, Exception) for reply in replies)
        if not await self._is_synced(synced, in_queue=in_queue):
            places = [None] * len(entries)
        return [self._ended(*one) for one in zip(entries, replies, places, strict=True)]

    def _begin(self, entries: Sequence[Entry]) -> "tuple[Sequence[Place | None], asyncio.Future[None] | None]":
        """Where they lie in the journal, and when they are on the disk; None where they are not written."""
        try:
            return self._journal.begin([entry.record(confirmed=False) for entry in entries])
        except OSError as failure:
            log.error("accept.journal_failed", error=str(failure))
            return (), None

    async def _is_synced(self, synced: "asyncio.Future[None] | None", *, in_queue: bool) -> bool:
        """Whether they are on the disk. One that hangs keeps nobody waiting where the queue has them."""
        if synced is None:
            return False
        try:
            async with asyncio.timeout(PATIENCE if in_queue and not synced.done() else None):
                await synced
        except OSError as failure:  # TimeoutError is one
            log.error("accept.journal_failed", error=str(failure) or "an fdatasync hangs")
            return False
        return True

    def _ended(self, entry: Entry, reply: object, place: Place | None) -> Unavailable | None:
        """`place` is where it lies in the journal, on the disk."""
        if not isinstance(reply, Exception):
            self._confirmed.add(entry.ids)
            ACCEPTED.by["both" if place else "queue"] += len(entry.ids)
        elif place:
            if isinstance(reply, ResponseError):  # it is well and refuses this one
                log.warning("accept.queue_refused", error=str(reply)[:100])
            self._reinjector.add(place)
            ACCEPTED.by["journal"] += len(entry.ids)
        else:
            log.error("accept.no_store", error=str(reply))
            return Unavailable("no store can take messages now")
        return None
