"""Proves, by id, that every recipient accepted has ended or is on its way, and names those that nobody works on.

    accepted = delivered + failed + suppressed + cancelled + live

What was accepted, the journals and the events say; what has ended, the events and receipts; what lives, the queue.
They are read in this order, so a message that moves meanwhile is seen where it was or where it went. What lives must be
due somewhere, too: nobody works on a message that is in no lane.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import orjson
from redis import Redis

from outbox.account import Account
from outbox.blobs import blob_name
from outbox.errors import ObjectsUnavailable
from outbox.facts import Facts, Sources, read_queue, read_stream
from outbox.generation import Memory, Sight
from outbox.restoring import Restoring, put
from outbox.scripts import run
from outbox.states import State
from runtime.clock import to_ms
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_NAMED = 100  # orphans told by their ids; all are in the log
_AT_ONCE = 100  # messages whose places are looked for in one call, which stops the queue for that long
_ROUNDS = 5  # the archive may overtake the reader of the stream so often
_UNKNOWN = "unknown to the queue"
_NOWHERE = "nowhere due"

Ended = Callable[[str], bool]


@dataclass(slots=True)
class Audited:
    """The sums, in recipients. `orphans` are ids of messages, the first hundred."""

    at: int  # ms
    queue: str = "ok"  # lost: nothing was audited, since nearly all of it would be missing
    messages: int = 0
    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    suppressed: int = 0
    cancelled: int = 0
    live: int = 0
    in_journal_only: int = 0  # of the live: not yet in the queue
    unaccounted: int = 0
    orphans: list[str] = field(default_factory=list)
    without_content: int = 0  # live messages whose large content is not where the queue says
    repaired: int = 0  # messages
    reinjected: int = 0  # accepts that lay in an abandoned journal only (outbox/adopt.py), put there by the repair
    gaps: list[str] = field(default_factory=list)  # events that cannot be read: what they tell is not counted

    @property
    def holds(self) -> bool:
        """Whether the equation holds."""
        return self.queue == "ok" and not self.unaccounted and not self.gaps and not self.without_content


class Audit:
    """One audit of this machine's data folder, and of copies of other machines'."""

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        *,
        now: datetime,
        others: Sequence[Path] = (),
        ended_in_history: Ended = lambda _: False,
    ) -> None:
        self._redis = redis
        self._prefix = settings.queue_prefix
        self._settings = settings
        self._memory = Memory(settings)
        self._sources = Sources(settings, others)
        self._ended_in_history = ended_in_history  # asked only about messages that nobody else knows
        self._restoring = Restoring(self._sources, "", settings.node, now)
        self._result = Audited(to_ms(now))
        self._blobs: set[str] | None = None

    def run(self, *, repair: bool = False) -> Audited:
        """Read everything, and put orphans back if asked to. The result is kept in the queue, for the backlog."""
        sight = self._sight()
        if self._memory.is_lost(sight):
            self._result.queue = "lost"
        else:
            with Facts(self._settings.data_dir) as facts:
                self._gather(facts)
                self._blobs = self._list_blobs()
                for accounts in facts.accounts():
                    ours = [account for account in accounts if account.counts(self._sources.begins_at)]
                    self._count([a for a in ours if _came_before(a, sight.number)], repair=repair)
        self._tell()
        return self._result

    def _sight(self) -> Sight:
        reply: Any = self._redis.mget(self._memory.keys)
        return Sight.of(reply)

    def _gather(self, facts: Facts) -> None:
        for _ in self._sources.read_journals(facts):
            pass
        read_queue(self._redis, self._prefix, facts, whole=False)
        try:
            self._read_events(facts)
        except ObjectsUnavailable as failure:
            self._result.gaps.append(str(failure))

    def _read_events(self, facts: Facts) -> None:
        read, gaps = self._sources.read_archives(facts)
        self._result.gaps = [str(gap) for gap in gaps]
        for _ in range(_ROUNDS):
            newest = self._sight().number
            read = read_stream(self._redis, self._prefix, facts, after=read)
            if read >= newest:
                return
            read, _ = self._sources.read_archives(facts, after=read)
        self._result.gaps.append(f"event {read + 1} is neither in the stream nor in the archive")

    def _list_blobs(self) -> set[str] | None:
        """The names of all large contents; None when nobody can tell."""
        blobs = self._sources.blobs
        try:
            return set(blobs.store.names()) if blobs.enabled else None
        except ObjectsUnavailable as failure:
            self._result.gaps.append(str(failure))
            return None

    def _look_for_content(self, account: Account, *, repair: bool) -> None:
        """A live message needs its content: without it the queue promises what no worker can do."""
        names = {blob_name(account.id, digest) for digest in account.blobs}
        if self._blobs is None or not names or not names.isdisjoint(self._blobs):
            return
        live: Any = self._redis.hget(f"{{{self._prefix}}}:m:{account.id}", "live")
        if not int(live or 0):
            return  # it has ended meanwhile
        if repair and self._put_content(account):
            return
        log.error("audit.content_missing", id=account.id)
        self._result.without_content += 1

    def _put_content(self, account: Account) -> bool:
        submission = self._sources.message(account, self._redis, self._prefix)
        if submission is None or not submission.message.blob:
            return False
        self._sources.blobs.put(submission.message, submission.content)
        self._result.repaired += 1
        log.warning("audit.repaired", id=account.id, why="its content was missing")
        return True

    def _count(self, accounts: list[Account], *, repair: bool) -> None:
        sums: Counter[str] = Counter()
        living: list[Account] = []
        suspects: list[Account] = []
        for account in accounts:
            ends = account.ends()
            sums.update(ends.values())
            left = account.recipients - len(ends)
            if left and not account.confirmed:
                self._result.in_journal_only += left
            if left and (account.live or not account.confirmed):
                sums["live"] += left
                if account.live:
                    living.append(account)
                    self._look_for_content(account, repair=repair)
            elif left:
                suspects.append(account)
            self._result.messages += 1
            self._result.accepted += account.recipients
        for state in (State.DELIVERED, State.FAILED, State.SUPPRESSED, State.CANCELLED, "live"):
            setattr(self._result, state, getattr(self._result, state) + sums[state])
        living += self._look_again(suspects, repair=repair)
        for at in range(0, len(living), _AT_ONCE):
            self._look_for_places(living[at : at + _AT_ONCE], repair=repair)

    def _look_for_places(self, living: list[Account], *, repair: bool) -> None:
        """A live message waits in its lane, is sent under a lease, or is held: otherwise nobody works on it."""
        how = (to_ms(self._restoring.now), self._settings.max_releases, int(repair))
        found = run(self._redis, self._settings, "astray", *how, *(account.id for account in living))
        astray: Counter[str] = Counter()
        for delivery_id, recipients in found:
            astray[delivery_id.decode().rpartition("/")[0]] += recipients
        for account in living:
            nowhere = min(astray[account.id], account.recipients - len(account.ends()))
            if nowhere and repair:
                self._result.repaired += 1
                log.warning("audit.repaired", id=account.id, why=_NOWHERE)
            elif nowhere:
                self._result.live -= nowhere
                self._orphan(account, nowhere, _NOWHERE)

    def _look_again(self, suspects: list[Account], *, repair: bool) -> list[Account]:
        """What was not seen may have come meanwhile, or be known to the history alone. Those that have come."""
        there: list[Account] = []
        pipe = self._redis.pipeline(transaction=False)
        for account in suspects:
            pipe.exists(f"{{{self._prefix}}}:m:{account.id}")
        for account, is_there in zip(suspects, pipe.execute() if suspects else [], strict=True):
            left = account.recipients - len(account.ends())
            if is_there:
                self._result.live += left
                there.append(account)
            elif self._ended_in_history(account.id):
                self._result.accepted -= left  # of an archive that is no more
            elif repair and self._repair(account):
                self._result.live += left
            else:
                self._orphan(account, left, _UNKNOWN)
        return there

    def _orphan(self, account: Account, left: int, why: str) -> None:
        log.error("audit.orphan", id=account.id, recipients=left, why=why)
        self._result.unaccounted += left
        if len(self._result.orphans) < _NAMED:
            self._result.orphans.append(account.id)

    def _repair(self, account: Account) -> bool:
        """Put it back as the journals know it; False when its content is nowhere."""
        submission = self._sources.message(account, self._redis, self._prefix)
        if submission is None:
            log.error("audit.content_missing", id=account.id)
            return False
        if submission.message.blob:
            self._sources.blobs.put(submission.message, submission.content)
        put(self._redis, [self._restoring.arguments(account, submission)], keys=self._memory.script_keys)
        self._result.repaired += 1
        log.warning("audit.repaired", id=account.id, why=_UNKNOWN)
        return True

    def _tell(self) -> None:
        result = self._result
        told = {name: value for name, value in asdict(result).items() if name != "orphans"}
        level = log.info if result.holds else log.error
        level("audit.done", **told)
        cast("Any", self._redis).set(f"{{{self._prefix}}}:audit", orjson.dumps(asdict(result)))


def _came_before(account: Account, newest: int) -> bool:
    """Whether it was accepted before the audit began, when the events had reached `newest`."""
    return account.journal is not None or (account.accepted is not None and account.accepted.number <= newest)
