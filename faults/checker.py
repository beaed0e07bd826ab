"""The account of a drill: every accepted mail against what arrived and what is recorded. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faults.phases import Phase, Span, Times, within
from faults.rows import Rows
from faults.sink import Arrival, altered
from nightmail.demo.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Kill:
    """A process that was killed or stopped, and when another stood in its place; wall clock seconds."""

    name: str
    at: float
    back_at: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Accept latencies, and delays from the moment a mail was due to leave until it lay in the mailbox."""

    accept: Times
    delay: Times


@dataclass(frozen=True, slots=True)
class Account:
    """What came of a drill. Numbers are numbers of mails."""

    accepted: int
    refused: Sequence[str]
    lost: Sequence[int]
    duplicates: Mapping[int, int]  # mail -> copies beyond the first
    phantoms: Sequence[int]
    misnamed: Sequence[int]
    altered: Sequence[int]
    rows: Rows
    timing: Mapping[Phase, Timing]
    longest_accept: float
    longest_delay: float
    kills: Sequence[Kill]
    resumes: Times
    last_copies: Mapping[int, float]  # duplicated mail -> when its last copy came

    @property
    def duplicated(self) -> int:
        """Copies too many."""
        return sum(self.duplicates.values())

    @property
    def unflagged(self) -> list[int]:
        """Duplicated mails that the history does not mark as possibly so."""
        return sorted(self.duplicates.keys() - self.rows.flagged)


def check(
    ledger: Ledger, arrived: Sequence[Arrival], rows: Rows, *, spans: Sequence[Span], kills: Sequence[Kill]
) -> Account:
    """Compare."""
    taken = ledger.receipts
    copies = Counter(mail.number for mail in arrived)
    firsts = {mail.number: mail for mail in reversed(arrived)}
    known = {number: firsts[number] for number in taken.keys() & firsts.keys()}
    waits = [(taken[n].begun_at, taken[n].accepted_at - taken[n].begun_at) for n in taken]
    delays = [(taken[n].begun_at, mail.received_at - taken[n].begun_at) for n, mail in known.items()]
    timing = {phase: Timing(within(waits, spans, phase), within(delays, spans, phase)) for phase in Phase}
    duplicates = {number: count - 1 for number, count in copies.items() if count > 1}
    return Account(
        accepted=len(taken),
        refused=tuple(ledger.refusals.values()),
        lost=sorted(taken.keys() - copies.keys()),
        duplicates=duplicates,
        phantoms=sorted(copies.keys() - taken.keys() - ledger.refusals.keys()),
        misnamed=sorted(number for number, mail in known.items() if taken[number].id not in mail.message_id),
        altered=altered(arrived, ledger),
        rows=rows,
        timing=timing,
        longest_accept=max((seconds for _, seconds in waits), default=0.0),
        longest_delay=max((seconds for _, seconds in delays), default=0.0),
        kills=tuple(kills),
        resumes=Times.of(resumes(kills, arrived)),
        last_copies={mail.number: mail.received_at for mail in arrived if mail.number in duplicates},
    )


def resumes(kills: Sequence[Kill], arrived: Sequence[Arrival]) -> list[float]:
    """For each kill of the only worker: seconds until its next life delivered the first mail."""
    found = []
    for kill in kills:
        later = [mail.received_at for mail in arrived if mail.received_at > kill.back_at]
        if kill.name.startswith("worker") and later:
            found.append(min(later) - kill.at)
    return found
