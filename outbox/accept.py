"""The one way in, used by HTTP and SMTP alike: durable in the queue and in the journal, and only then yes.

First the queue, one round trip for all accepts of an event-loop turn; then the journal, one fdatasync for all that
wait. Either store alone is enough to say yes; the other's illness is an alarm. What the queue did not confirm lies in
the journal marked so, and `outbox/reinject.py` puts it into the queue later, under the same id.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import Counter
from redis.exceptions import ResponseError

from outbox.entry import Entry, FirstUse, Submission
from outbox.errors import IdempotencyConflict, Unavailable
from outbox.ids import Idempotency, day_of, derive_ids, new_id
from outbox.inlet import Inlet, Unconfirmed
from outbox.journal import Journal
from outbox.prune import Pruner
from outbox.reinject import Reinjector
from runtime import clock
from runtime.clock import ms_of
from runtime.logs import get
from runtime.settings import Settings

__all__ = ["Accepted", "Acceptor", "Idempotency", "Submission"]

log = get(__name__)

ACCEPTED = Counter("nightmail_accepted_messages_total", "Messages accepted, by where they were durable", ["stores"])

_BLIND_KEYS = 100_000  # idempotency keys remembered here while the queue cannot be asked


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
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._inlet = inlet
        self._journal = journal
        self._secret = secret
        self._now = now
        self._retention_ms = ms_of(settings.idempotency_retention)
        self._reinjector = Reinjector(inlet, journal, pause=settings.redis_timeout)
        self._blind: OrderedDict[str, FirstUse] = OrderedDict()
        self._running: set[asyncio.Task[Any]] = set()
        self._pruner = Pruner(inlet.redis, journal, self._reinjector, settings)
        self._pruning: asyncio.Task[None] | None = None

    @property
    def can_append(self) -> bool:
        """Readiness: at least one store takes appends, as far as is known."""
        return not self._inlet.is_open or self._journal.healthy

    async def start(self) -> None:
        """Begin to re-inject what an earlier life of this process left unconfirmed."""
        await self._reinjector.start()
        self._pruning = asyncio.create_task(self._pruner.run())

    async def stop(self) -> None:
        """Let running appends finish, then close."""
        if self._running:
            await asyncio.wait(self._running)
        if self._pruning:
            self._pruning.cancel()
            await asyncio.wait([self._pruning])
        await self._reinjector.stop()
        await self._journal.close()

    def mint(self, count: int, idempotency: Idempotency | None = None) -> tuple[str, ...]:
        """Ids for `count` messages: derived from the idempotency key, or new."""
        now = self._now()
        if idempotency is None:
            return tuple(new_id(now) for _ in range(count))
        return derive_ids(self._secret, idempotency, day=day_of(now), count=count)

    async def accept(self, submissions: Sequence[Submission], idempotency: Idempotency | None = None) -> Accepted:
        """Make the messages durable, all or nothing. A cancelled caller does not stop the append.

        Raises Unavailable when no store could take them, IdempotencyConflict when the key served another request.
        """
        day = self._day_of(submissions, idempotency)
        entry = Entry.of(submissions, idempotency, day=day, retention_ms=self._retention_ms)
        return await asyncio.shield(self._keep(self._append(entry, idempotency)))

    def _day_of(self, submissions: Sequence[Submission], idempotency: Idempotency | None) -> int:
        """The day that is in the ids: today, or yesterday when midnight passed since they were minted."""
        today = day_of(self._now())
        ids = tuple(submission.message.id for submission in submissions)
        if idempotency and ids != derive_ids(self._secret, idempotency, day=today, count=len(ids)):
            return today - 1
        return today

    def _keep(self, work: Coroutine[Any, Any, Accepted]) -> asyncio.Task[Accepted]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _append(self, entry: Entry, idempotency: Idempotency | None) -> Accepted:
        if idempotency and (earlier := self._blind.get(entry.key_hash)):
            return self._replay(earlier, idempotency)
        try:
            first_use = await self._inlet.put(entry)
        except Unconfirmed:
            return await self._append_blind(entry)
        except ResponseError as refusal:  # full, read-only, busy: the queue is ill in its own words
            log.warning("accept.queue_refused", error=str(refusal)[:100])
            return await self._append_blind(entry)
        if first_use is not None and idempotency is not None:
            return self._replay(first_use, idempotency)
        try:
            await self._journal.append(*entry.record(confirmed=True))
        except OSError as failure:
            log.error("accept.journal_failed", error=str(failure))
            ACCEPTED.labels("queue").inc(len(entry.ids))
        else:
            ACCEPTED.labels("both").inc(len(entry.ids))
        return Accepted(entry.ids)

    async def _append_blind(self, entry: Entry) -> Accepted:
        """The queue is away or its answer is unknown: the journal alone makes it durable."""
        if entry.first_use:
            self._blind[entry.key_hash] = entry.first_use
            if len(self._blind) > _BLIND_KEYS:
                self._blind.popitem(last=False)
        try:
            place = await self._journal.append(*entry.record(confirmed=False))
        except OSError as failure:
            self._blind.pop(entry.key_hash, None)
            log.error("accept.no_store", error=str(failure))
            raise Unavailable("no store can take messages now") from failure
        self._reinjector.add(place)
        ACCEPTED.labels("journal").inc(len(entry.ids))
        return Accepted(entry.ids)

    def _replay(self, first_use: FirstUse, idempotency: Idempotency) -> Accepted:
        if first_use.fingerprint != idempotency.fingerprint:
            raise IdempotencyConflict("this idempotency key was used for another request")
        ids = derive_ids(self._secret, idempotency, day=first_use.day, count=first_use.count)
        return Accepted(ids, replayed=True)
