"""The figures of a replay: asked, measured, and what the incident's report says."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nightmail.demo.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `then` is the report's own figure, where it has one."""

    name: str
    asked: str
    measured: str
    met: bool
    then: str = ""


@dataclass(slots=True)
class Phases:
    """When, by the wall clock, the load was undisturbed and when the database was ill.

    `restarts` are times in which we killed the listeners themselves: what was sent then waits for them to come back,
    and is told apart.
    """

    baseline: tuple[float, float] = (0.0, 0.0)
    fault: tuple[float, float] = (0.0, 0.0)
    restarts: list[tuple[float, float]] = field(default_factory=list)

    def of(self, at: float) -> str:
        """The phase of an instant; empty outside of all."""
        if any(_within(at, restart) for restart in self.restarts):
            return "restart"
        if _within(at, self.fault):
            return "fault"
        return "baseline" if _within(at, self.baseline) else ""


def accept_times(ledger: Ledger, phases: Phases) -> Mapping[str, list[float]]:
    """Seconds from when a mail was due to leave until its 200 or 250, by phase."""
    return _by_phase(phases, ((r.begun_at, r.accepted_at - r.begun_at) for r in ledger.receipts.values()))


def delays(ledger: Ledger, arrivals: Mapping[int, float], phases: Phases) -> Mapping[str, list[float]]:
    """Seconds from accept to mailbox, by the phase in which the mail was accepted."""
    taken = [receipt for receipt in ledger.receipts.values() if receipt.number in arrivals]
    return _by_phase(phases, ((r.accepted_at, max(0.0, arrivals[r.number] - r.accepted_at)) for r in taken))


def zero(name: str, count: int, *, of: str = "", then: str = "") -> Figure:
    """A figure that must be 0; `of` says out of how many."""
    return Figure(name, "0", f"{count}{f' of {of}' if of else ''}", count == 0, then)


def at_most(name: str, seconds: float | None, limit: float, *, then: str = "") -> Figure:
    """Seconds that must not be more than that; None is never."""
    measured = "never" if seconds is None else f"{seconds:.1f} s"
    return Figure(name, f"<= {limit:g} s", measured, seconds is not None and seconds <= limit, then)


def compared(name: str, times: Mapping[str, Sequence[float]], *, factor: float, slack: float, then: str = "") -> Figure:
    """p99 while the database is ill against p99 before: at most `factor` times as long, and `slack` seconds."""
    before, ill = p99(times.get("baseline", ())), p99(times.get("fault", ()))
    limit = factor * before + slack
    asked = f"<= {limit * 1000:.0f} ms" + (f" ({factor:g} x baseline + {slack * 1000:.0f})" if slack else "")
    measured = f"{before * 1000:.0f} ms before, {ill * 1000:.0f} ms ill ({len(times.get('fault', ()))} mails)"
    return Figure(name, asked, measured, bool(times.get("fault")) and ill <= limit, then)


def p99(times: Iterable[float]) -> float:
    """The 99th percentile by nearest rank; 0 of nothing."""
    ordered = sorted(times)
    return ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else 0.0


def _by_phase(phases: Phases, timed: Iterable[tuple[float, float]]) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {}
    for at, seconds in timed:
        found.setdefault(phases.of(at), []).append(seconds)
    return found


def _within(at: float, span: tuple[float, float]) -> bool:
    return span[0] <= at < span[1]
