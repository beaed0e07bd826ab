"""What was asked of a drill and what was measured. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from faults.checker import Account
from faults.phases import Phase


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    figure: str
    asked: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """Bounds beyond those that always hold (nothing lost, refused, altered, unflagged). Seconds; None: not asked."""

    duplicates_per_kill: float = 0.0
    accept_ratio: float | None = None  # accept p99 in the fault to that of the baseline
    delay_excess: float | None = None  # delivery delay p99 in the fault beyond that of the baseline
    accept_p99: float | None = None
    refused_with: tuple[str, ...] = ()  # words of refusals that are as they should be
    resume_p99: float | None = None
    longest_delay: float | None = None
    fenced: bool = False  # a worker that was stopped and goes on sends nothing that another has taken over


def told(figure: str, measured: str) -> Figure:
    """A figure that nobody asked for."""
    return Figure(figure, "told", measured, met=True)


def none_of(figure: str, count: int) -> Figure:
    """What must not have happened."""
    return Figure(figure, "0", str(count), count == 0)


def at_most(figure: str, bound: float, measured: float, *, unit: str = "ms") -> Figure:
    """A time in seconds with a bound, shown in milliseconds or seconds."""
    scale, digits = (1000, 0) if unit == "ms" else (1, 1)
    shown = f"{measured * scale:.{digits}f} {unit}"
    return Figure(figure, f"<= {bound * scale:.{digits}f} {unit}", shown, measured <= bound)


def met(figures: Iterable[Figure]) -> bool:
    """Whether all were."""
    return all(figure.met for figure in figures)


def figures_of(account: Account, asked: Asked) -> list[Figure]:
    """All lines of a drill."""
    return [*_counts(account, asked), *_times(account, asked)]


def _counts(account: Account, asked: Asked) -> list[Figure]:
    kills = len(account.kills)
    allowed = int(asked.duplicates_per_kill * kills)
    found = [
        Figure("accepted", "all", str(account.accepted), account.accepted > 0),
        *_refusals(account, asked),
        none_of("lost", len(account.lost)),
        Figure(
            "duplicated", f"<= {allowed}" if allowed else "0", str(account.duplicated), account.duplicated <= allowed
        ),
        none_of("duplicated and not flagged", len(account.unflagged)),
        none_of("never accepted", len(account.phantoms)),
        none_of("under another id", len(account.misnamed)),
        none_of("altered", len(account.altered)),
        none_of("wrong rows", account.rows.wrong),
    ]
    if asked.fenced:
        late = [at for at in account.last_copies.values() if any(at > kill.back_at for kill in account.kills)]
        found.append(none_of("sent in spite of the fence", len(late)))
    flagged = len(account.rows.flagged)
    return [
        *found,
        *([told("flagged as possible duplicates", str(flagged))] if flagged else []),
        *([told("kills", str(kills))] if kills else []),
    ]


def _refusals(account: Account, asked: Asked) -> list[Figure]:
    if not asked.refused_with:
        return [none_of("refused", len(account.refused))]
    proper = sum(any(words in refusal for words in asked.refused_with) for refusal in account.refused)
    return [
        Figure(f"refused with {' or '.join(asked.refused_with)}", "> 0", str(proper), proper > 0),
        none_of("refused otherwise", len(account.refused) - proper),
    ]


def _times(account: Account, asked: Asked) -> list[Figure]:
    health, fault = account.timing[Phase.BASELINE], account.timing[Phase.FAULT]
    found: list[Figure] = []
    if fault.accept.count:
        found += [
            told("accept, baseline: p50 / p99 / max", str(health.accept)),
            told("accept, fault: p50 / p99 / max", str(fault.accept)),
            told("delay, baseline: p50 / p99 / max", str(health.delay)),
            told("delay, fault: p50 / p99 / max", str(fault.delay)),
        ]
    if asked.accept_ratio is not None:
        found.append(at_most("accept p99 in the fault", asked.accept_ratio * health.accept.p99, fault.accept.p99))
    if asked.delay_excess is not None:
        found.append(at_most("delay p99 in the fault", asked.delay_excess + health.delay.p99, fault.delay.p99))
    if asked.accept_p99 is not None:
        found.append(at_most("accept p99 in the fault", asked.accept_p99, fault.accept.p99))
    if asked.resume_p99 is not None:
        found.append(told("resumed after a kill: p50 / p99 / max", str(account.resumes)))
        found.append(at_most("resumed after a kill, p99", asked.resume_p99, account.resumes.p99, unit="s"))
    if asked.longest_delay is not None:
        found.append(at_most("longest delay", asked.longest_delay, account.longest_delay, unit="s"))
    return [
        *found,
        told("longest accept / delay of all", f"{account.longest_accept:.1f} / {account.longest_delay:.1f} s"),
    ]
