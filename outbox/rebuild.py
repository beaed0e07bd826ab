"""Fills a queue that lost its memory: every message that was accepted and has not ended, with what of it waits.

The queue bears a mark meanwhile that nobody remembers, so nothing is delivered from it and nothing accepted into it.
A rebuild that was killed goes on where it was when it is started again.
Why it is done so: docs/decisions/0013-a-queue-that-lost-its-memory.md.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from redis import Redis

from outbox import events, webhook_places
from outbox.account import Account
from outbox.entry import Submission
from outbox.errors import ObjectsUnavailable, OutboxError
from outbox.facts import Facts, Sources, read_queue, read_stream, under_way
from outbox.generation import REBUILDING, Memory, Remembered, Sight
from outbox.lines import Argument
from outbox.policy_snapshot import read_snapshot, without_secrets
from outbox.records import Header
from outbox.restoring import Restoring, put
from runtime.clock import to_ms
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

ROOM = 100_000  # event numbers left free: events that were made after the last number anybody remembers
_AT_ONCE = 64
_AT_ONCE_BYTES = 8_000_000
_LOOK = 0.2  # seconds between two looks at the receipts of living workers


class CannotRebuild(OutboxError):
    """The reason, and what to do about it, in words for a person."""


@dataclass(slots=True)
class Rebuilt:
    """What was done, or would be: counts of messages."""

    needed: bool = True
    restored: int = 0
    waiting: int = 0
    in_doubt: int = 0
    told_again: int = 0
    without_content: int = 0
    generation: str = ""
    after: int = 0  # the last event that stands as it was
    begins: int = 0  # the number of the `rebuilt` event


class Rebuild:
    """One rebuild, from `folders`: this machine's data folder, and copies of other machines'."""

    def __init__(self, redis: Redis, settings: Settings, *, now: datetime, others: Sequence[Path] = ()) -> None:
        self._redis = redis
        self._settings = settings
        self._now = now
        self._prefix = f"{{{settings.queue_prefix}}}"
        self._others = others
        self._memory = Memory(settings)
        self._result = Rebuilt()
        self._archived = 0  # how far the archive reaches

    def run(self, *, dry: bool = False, despite_gaps: bool = False, patience: float | None = None) -> Rebuilt:
        """Do it. `patience`: seconds to wait for attempts under way; by default a lease. Raises CannotRebuild."""
        sight = self._sight()
        known = self._memory.remembered
        if known is not None and not self._memory.is_lost(sight):
            return Rebuilt(needed=False)
        self._require_ours(sight, known)
        resumed = sight.mark.startswith(REBUILDING)
        if not dry:
            self._wait(self._settings.lease.total_seconds() if patience is None else patience)
        sources = Sources(self._settings, self._others)
        with Facts(self._settings.data_dir) as facts:
            trusted = resumed or (known is not None and sight.mark == known.mark)
            keys = self._gather(sources, facts, known, trusted=trusted, despite_gaps=despite_gaps)
            self._begin(sight, known, facts, dry=dry)
            if not dry:
                self._restore_keys(keys)
            self._restore(sources, facts, dry=dry)
        if not dry:
            self._end()
        return self._result

    def adopt(self) -> Remembered:
        """Take the queue as it is for the one to remember. Raises CannotRebuild while it is not whole."""
        sight = self._sight()
        if not sight.mark or sight.mark.startswith(REBUILDING):
            raise CannotRebuild("the queue is not whole: run the rebuild to its end first")
        known = Remembered(sight.mark, sight.number, sight.archived)
        self._memory.remember(known)
        return known

    def _sight(self) -> Sight:
        reply: Any = self._redis.mget(self._memory.keys)
        return Sight.of(reply)

    def _require_ours(self, sight: Sight, known: Remembered | None) -> None:
        if known is None and not sight.mark and not sight.number:
            return  # a machine that forgot, perhaps: there is nothing to spoil
        if known is None:
            raise CannotRebuild("this machine remembers no queue: start the stack, it will look by itself")
        elsewhere = sight.mark and sight.mark != known.mark and not sight.mark.startswith(REBUILDING)
        if elsewhere and sight.number >= known.number + ROOM // 2:
            raise CannotRebuild(
                "the queue was rebuilt from another machine. If that was given this machine's data folder (--from), "
                "`nightmail rebuild queue --adopt` takes it as it is"
            )

    def _wait(self, patience: float) -> None:
        """Workers that were sending when the queue was lost may still hear the answer: let them write it down."""
        deadline = time.monotonic() + patience
        folders = [self._settings.data_dir, *self._others]
        while (open_attempts := under_way(folders)) and time.monotonic() < deadline:
            time.sleep(_LOOK)
        if open_attempts:
            log.warning("rebuild.attempts_in_doubt", count=len(open_attempts))

    def _gather(
        self, sources: Sources, facts: Facts, known: Remembered | None, *, trusted: bool, despite_gaps: bool
    ) -> list[tuple[str, str, int]]:
        """Read everything; returns the idempotency keys still in force: name, value, milliseconds left."""
        keys = [key for header in sources.read_journals(facts) if (key := self._key_of(header))]
        try:
            newest, found = sources.read_archives(facts)
        except ObjectsUnavailable as failure:
            raise CannotRebuild(f"the archive is away, and it knows what has ended: {failure}") from None
        gaps = [str(gap) for gap in found]
        self._archived = newest
        if known is not None and newest < known.archived:
            gaps.append(f"the archive reached event {known.archived} once, and ends at {newest}")
        if gaps and not despite_gaps:
            raise CannotRebuild("the archive is not whole, so mail might go out twice: " + "; ".join(gaps[:3]))
        self._result.after = newest
        if trusted:
            self._result.after = read_stream(self._redis, self._settings.queue_prefix, facts, after=newest)
        read_queue(self._redis, self._settings.queue_prefix, facts, whole=True)
        for archive in sources.archives:
            facts.suppressions.note_copy(archive.store)
        facts.suppressions.note_queue(self._redis, self._settings.queue_prefix)
        return keys

    def _key_of(self, header: Header) -> tuple[str, str, int] | None:
        if "first_use" not in header:
            return None
        left = header["messages"][0]["created_at"] + header["ms"] - to_ms(self._now)
        return (header["key_hash"], header["first_use"], left) if left > 0 else None

    def _begin(self, sight: Sight, known: Remembered | None, facts: Facts, *, dry: bool) -> None:
        """Set the mark of a queue under repair, and the event that declares the seam; both or none."""
        if sight.mark.startswith(REBUILDING):
            self._result.generation = sight.mark.removeprefix(REBUILDING)
            return
        self._result.generation = str(uuid4())
        highest = max(self._result.after, sight.number, known.number if known else 0, self._recorded())
        self._result.begins = (highest // ROOM + 2) * ROOM
        if dry:
            return
        if known is not None:  # if the queue is lost once more before the end, numbers still only grow
            self._memory.remember(replace(known, number=self._result.begins + ROOM // 2))
        self._declare([events.rebuilt(self._result.after, self._result.generation, at=self._now)], facts)

    def _declare(self, declared: list[bytes], facts: Facts) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.set(f"{self._prefix}:generation", REBUILDING + self._result.generation)
        pipe.set(f"{self._prefix}:archived", self._archived)
        declared += self._restore_policy(pipe)
        webhook_places.restore(pipe, self._settings, self._others, after=self._result.after)
        declared += facts.suppressions.restore(pipe, self._settings.queue_prefix, number=self._result.begins)
        for number, event in enumerate(declared, self._result.begins):
            pipe.xadd(f"{self._prefix}:events", {"e": event}, id=f"{number}-0")
        pipe.set(f"{self._prefix}:seq", self._result.begins + len(declared) - 1)
        pipe.execute()

    def _recorded(self) -> int:
        """What the recorder last said in this queue; 0 where the queue forgot."""
        checkpoint: Any = self._redis.hget(f"{self._prefix}:recorder", "checkpoint")
        return int(checkpoint or 0)

    def _restore_policy(self, pipe: Any) -> list[bytes]:
        """Keys and domains as this machine last had them, unless the queue has newer ones."""
        snapshot = read_snapshot(self._settings.data_dir / "policy" / "snapshot.json")
        version: Any = self._redis.get(f"{self._prefix}:policyversion")
        if snapshot is None or int(version or 0) >= snapshot.version or not snapshot.objects:
            return []
        pipe.hset(f"{self._prefix}:policy", mapping={k: orjson.dumps(v) for k, v in snapshot.objects.items()})
        pipe.set(f"{self._prefix}:policyversion", snapshot.version + 1)
        return [_policy_event(name, value, self._now) for name, value in snapshot.objects.items()]

    def _restore_keys(self, keys: list[tuple[str, str, int]]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for name, value, left in keys:
            pipe.set(f"{self._prefix}:idem:{name}", value, nx=True, px=left)
        pipe.execute()

    def _restore(self, sources: Sources, facts: Facts, *, dry: bool) -> None:
        restoring = Restoring(sources, self._result.generation, self._settings.node, self._now)
        for accounts in facts.accounts():
            ours = (account for account in accounts if account.counts(sources.begins_at))
            wanted = [account for account in ours if _is_wanted(account)]
            for batch in _batches(self._arguments(restoring, wanted, dry=dry)):
                if not dry:
                    put(self._redis, batch, keys=(1, self._prefix))  # no fence: its mark is nobody's yet

    def _arguments(self, restoring: Restoring, accounts: list[Account], *, dry: bool) -> Iterator[list[Argument]]:
        result = self._result
        for account in accounts:
            submission = restoring.sources.message(account, self._redis, self._settings.queue_prefix)
            if submission is None:
                result.without_content += 1
                log.error("rebuild.content_missing", id=account.id)
                continue
            if submission.message.blob and not dry:
                self._put_blob(restoring.sources, submission)
            result.restored += 1
            result.told_again += not account.is_told
            live = len(account.ends()) < account.recipients
            result.waiting += live
            result.in_doubt += live and any(account.in_doubt(d.index) for d in submission.message.deliveries())
            yield restoring.arguments(account, submission)

    def _put_blob(self, sources: Sources, submission: Submission) -> None:
        """A large content goes to its place before the queue knows of it again."""
        try:
            sources.blobs.put(submission.message, submission.content)
        except ObjectsUnavailable as failure:
            raise CannotRebuild(f"the store of large contents is away: {failure}") from None

    def _end(self) -> None:
        """The queue is whole: give it its mark, and remember it."""
        generation = self._result.generation
        seq: Any = self._redis.get(f"{self._prefix}:seq")
        self._redis.set(f"{self._prefix}:generation", generation)
        self._memory.remember(Remembered(generation, int(seq or 0), self._archived))
        log.warning("queue.rebuilt", generation=generation, restored=self._result.restored, after=self._result.after)


def _is_wanted(account: Account) -> bool:
    """Whether it has work left, or is not told by the events that stand, or an old queue still holds it."""
    waits = len(account.ends()) < account.recipients
    return waits or account.live or not account.is_told


def _batches(every: Iterator[list[Argument]]) -> Iterator[list[list[Argument]]]:
    batch: list[list[Argument]] = []
    weight = 0
    for arguments in every:
        batch.append(arguments)
        weight += len(arguments[4]) if isinstance(arguments[4], bytes) else 0
        if len(batch) >= _AT_ONCE or weight > _AT_ONCE_BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _policy_event(name: str, value: dict[str, Any], now: datetime) -> bytes:
    kind, _, rest = name.partition("/")
    told = events.policy_changed(kind, rest, without_secrets(value), at=now)
    return orjson.dumps(orjson.loads(told) | {"restored": True})
