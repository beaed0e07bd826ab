"""The one way in, used by HTTP and SMTP alike: durable in the queue and in the journal, and only then yes.

Both at once where they can (outbox/both.py); first the queue and then the journal where only the queue can say whether
an idempotency key is a repeat, and for large contents. Either store alone is enough to say yes; the other's illness is
an alarm. What the queue did not confirm lies in the journal, and `outbox/reinject.py` puts it into the queue later,
under the same id.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from redis.exceptions import ResponseError

from outbox.adopt import Adopter
from outbox.blind import BlindKeys
from outbox.blobs import LARGE
from outbox.both import ACCEPTED, BothStores
from outbox.door import Door
from outbox.entry import Entry, FirstUse, Submission
from outbox.errors import IdempotencyConflict, TooLarge, Unavailable
from outbox.floors import Floors
from outbox.generation import Memory
from outbox.ids import Idempotency, day_of, derive_ids, new_ids
from outbox.inlet import Inlet, Unconfirmed
from outbox.journal import PATIENCE, Journal
from outbox.prune import Pruner
from outbox.records import MOST_BLOB
from outbox.reinject import Reinjector
from runtime import clock
from runtime.clock import ms_of, to_ms
from runtime.connections import StoreError
from runtime.logs import get
from runtime.settings import Settings
from runtime.tasks import end

__all__ = ["Accepted", "Acceptor", "Idempotency", "Submission", "demand_size"]

log = get(__name__)

_FIRST_LOOK = 5.0  # seconds
_BYTES_PER_SECOND = 10_000_000  # what a slow but healthy disk must take


def demand_size(octets: int) -> None:
    """Return if contents of one request may weigh so much together; raises TooLarge."""
    if octets > MOST_BLOB:
        raise TooLarge(f"{octets} octets")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The ids of what is now ours; `replayed` when an idempotency key answered instead."""

    ids: tuple[str, ...]
    replayed: bool = False


class Acceptor:
    """One per process. `start` before the first accept, `stop` after the last."""

    def __init__(
        self,
        inlet: Inlet,
        journal: Journal,
        settings: Settings,
        *,
        secret: bytes,
        floors: Floors | None = None,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._inlet = inlet
        self._journal = journal
        self._secret = secret
        self._now = now
        self._patience = settings.redis_timeout.total_seconds()
        self._retention_ms = ms_of(settings.idempotency_retention)
        self._reinjector = Reinjector(inlet, journal, settings, pause=settings.redis_timeout)
        self._both = BothStores(inlet, journal, self._reinjector)
        self._blind = BlindKeys()
        self._running: set[asyncio.Task[Any]] = set()
        self._pruner = Pruner(inlet.redis, journal, self._reinjector, settings)
        self._adopter = Adopter(inlet, settings)
        self._memory = Memory(settings)
        self._floors = floors or Floors(inlet.redis, settings)
        self.door = Door(settings)
        self._journal_way_every = settings.journal_way_every
        self._accepts = 0
        self._background: list[asyncio.Task[None]] = []

    @property
    def can_append(self) -> bool:
        """Readiness: at least one store takes appends, as far as is known."""
        return not self._inlet.is_open or self._journal.healthy

    async def start(self) -> None:
        """Begin to re-inject what an earlier life of this process left unconfirmed."""
        await self._reinjector.start()
        await self._floors.look_at_disks()
        with suppress(*StoreError):
            async with asyncio.timeout(_FIRST_LOOK):  # of a new machine's first look an archive is a part
                await self._memory.look(self._inlet.redis)
        watching = self._memory.watch(self._inlet.redis)
        works = (self._pruner.run(), self._floors.run(), self._adopter.run(), watching)
        self._background = [asyncio.create_task(work) for work in works]

    async def stop(self) -> None:
        """Let running appends finish, then close."""
        if self._running:
            await asyncio.wait(self._running)
        await end(*self._background)
        await self._reinjector.stop()
        await self._both.close()
        await self._journal.close()

    def demand(self) -> None:
        """Return if one more may come; raises Full or Overloaded. Costs nothing: ask it before reading a body."""
        self._floors.demand()
        self.door.demand()

    def mint(
        self, count: int, idempotency: Idempotency | None = None, *, now: datetime | None = None
    ) -> tuple[str, ...]:
        """Ids for `count` messages: derived from the idempotency key, or new."""
        now = now or self._now()
        if idempotency is None:
            return new_ids(now, count)
        return derive_ids(self._secret, idempotency, day=day_of(now), count=count)

    async def recognise(self, idempotency: Idempotency) -> Accepted | None:
        """The first answer, if this request is a repeat; None if it is none, or nobody can say while the queue is away.

        For a request that cannot be composed any more, or costs much to compose: `accept` recognises all others.
        Raises IdempotencyConflict when the key served another request.
        """
        key_hash = idempotency.hash()
        first_use = self._blind.answer_to(key_hash, idempotency.fingerprint) or await self._inlet.first_use(key_hash)
        return self._replay(first_use, idempotency) if first_use else None

    async def accept(self, submissions: Sequence[Submission], idempotency: Idempotency | None = None) -> Accepted:
        """Make the messages durable, all or nothing. A cancelled caller does not stop the append.

        Raises Unavailable when no store could take them (Full: when they should not), TooLarge, IdempotencyConflict
        when the key served another request.
        """
        self._floors.demand()
        size = sum([len(submission.content) for submission in submissions])
        demand_size(size)
        if size > LARGE:
            submissions = await self._inlet.large.named(submissions)
        entry = self._entry(submissions, idempotency) if idempotency else Entry.plain(submissions)
        if not self._both.takes(entry):
            return await asyncio.shield(self._keep(self._append(entry, idempotency)))
        if self._is_turn_of_the_journal():
            return await asyncio.shield(self._keep(self._append_by_journal(entry)))
        await self._both.append(entry)
        return Accepted(entry.ids)

    def _entry(self, submissions: Sequence[Submission], idempotency: Idempotency) -> Entry:
        """The entry under its key, with the day that is in its ids."""
        day = day_of(self._now())
        ids = tuple([submission.message.id for submission in submissions])
        if ids != derive_ids(self._secret, idempotency, day=day, count=len(ids)):
            day -= 1  # midnight passed since they were minted
        return Entry.of(submissions, idempotency, day=day, retention_ms=self._retention_ms)

    async def note(self, kind: Literal["cancelled", "rescheduled"], message_id: str, **fields: Any) -> None:
        """Keep what a client changed in the queue: a rebuild (outbox/rebuild.py) finds it nowhere else at first."""
        try:
            await self._journal.append({"kind": kind, "id": message_id, "at": to_ms(self._now()), **fields})
        except OSError as failure:  # the queue knows, and the archive soon
            log.error("accept.change_not_noted", kind=kind, id=message_id, error=str(failure))

    def _keep(self, work: Coroutine[Any, Any, Accepted]) -> asyncio.Task[Accepted]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _append(self, entry: Entry, idempotency: Idempotency | None) -> Accepted:
        if idempotency and (earlier := self._blind.answer_to(entry.key_hash, idempotency.fingerprint)):
            return self._replay(earlier, idempotency)
        try:
            first_use = await self._inlet.put(entry)
        except Unconfirmed:
            return await self._append_blind(entry, idempotency)
        except ResponseError as refusal:  # it is well and refuses this one
            log.warning("accept.queue_refused", error=str(refusal)[:100])
            return await self._append_blind(entry, idempotency)
        if first_use is not None and idempotency is not None:
            return self._replay(first_use, idempotency)
        record = entry.record(confirmed=True)
        try:
            async with asyncio.timeout(PATIENCE + len(record[1]) / _BYTES_PER_SECOND):  # the queue has it
                await self._journal.append(*record)
        except OSError as failure:  # TimeoutError is one
            log.error("accept.journal_failed", error=str(failure))
            ACCEPTED.by["queue"] += len(entry.ids)
        else:
            ACCEPTED.by["both"] += len(entry.ids)
        return Accepted(entry.ids)

    def _is_turn_of_the_journal(self) -> bool:
        """Once in so many accepts of those that go to both stores at once."""
        self._accepts += 1
        return self._journal_way_every > 0 and self._accepts % self._journal_way_every == 0

    async def _append_by_journal(self, entry: Entry) -> Accepted:
        """The way for bad days, tried on good ones. Waits for the queue, so that a client can ask for its mail."""
        try:
            accepted = await self._append_blind(entry, None, last_resort=False)
        except Unavailable:  # the journal is ill: the queue alone will do
            return await self._append(entry, None)
        if not self._inlet.is_open:
            await self._reinjector.caught_up(self._patience)
        return accepted

    async def _append_blind(
        self, entry: Entry, idempotency: Idempotency | None, *, last_resort: bool = True
    ) -> Accepted:
        """The queue is away or its answer is unknown: the journal alone makes it durable."""
        if idempotency and (earlier := self._blind.answer_to(entry.key_hash, idempotency.fingerprint)):
            return self._replay(earlier, idempotency)  # another request was quicker
        use = self._blind.begin(entry.key_hash, entry.first_use) if entry.first_use else None
        try:
            place = await self._journal.append(*entry.record(confirmed=False), last_resort=last_resort)
        except OSError as failure:
            if use:
                self._blind.forget(entry.key_hash, use)
            log.error("accept.no_store", error=str(failure))
            raise Unavailable("no store can take messages now") from failure
        if use:
            use.durable = True
        self._reinjector.add(place)
        ACCEPTED.by["journal"] += len(entry.ids)
        return Accepted(entry.ids)

    def _replay(self, first_use: FirstUse, idempotency: Idempotency) -> Accepted:
        if first_use.fingerprint != idempotency.fingerprint:
            raise IdempotencyConflict("this idempotency key was used for another request")
        ids = derive_ids(self._secret, idempotency, day=first_use.day, count=first_use.count)
        return Accepted(ids, replayed=True)
