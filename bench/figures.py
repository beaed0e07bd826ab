"""What was asked of a row and what was measured, with the spread over the rounds. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `median` is what counts against the bound; `low` and `high` are of single rounds."""

    row: str
    what: str
    asked: str
    measured: str
    met: bool | None  # None: told, not asked
    median: float
    low: float
    high: float
    unit: str


def told(row: str, what: str, values: Sequence[float], *, unit: str, digits: int = 0) -> Figure:
    """A figure that nobody asked for: its median and how far the rounds lie apart."""
    median, low, high = statistics.median(values), min(values), max(values)
    measured = f"{median:,.{digits}f} {unit}"
    if low != high:
        measured += f" ({low:,.{digits}f} to {high:,.{digits}f})"
    return Figure(row, what, "", measured, None, median, low, high, unit)


def at_least(row: str, what: str, bound: float, values: Sequence[float], *, unit: str = "x", digits: int = 2) -> Figure:
    """The median must reach the bound."""
    found = told(row, what, values, unit=unit, digits=digits)
    return replace(found, asked=f">= {bound:,g} {unit}", met=found.median >= bound)


def at_most(row: str, what: str, bound: float, values: Sequence[float], *, unit: str = "x", digits: int = 2) -> Figure:
    """The median must not pass the bound."""
    found = told(row, what, values, unit=unit, digits=digits)
    return replace(found, asked=f"<= {bound:,g} {unit}", met=found.median <= bound)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: what disturbs the machine for minutes disturbs both sides of a ratio."""
    return [our / their for our, their in zip(ours, theirs, strict=True)]


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
