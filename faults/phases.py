"""Spans of a drill, and the times measured in them: a fault is held against the health of the same run."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """What a span of the run counts as. What lies in no span (warm-up, catching up) is not timed."""

    BASELINE = "baseline"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Span:
    """From `begin` to `end`, wall clock seconds."""

    phase: Phase
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Times:
    """A distribution, in seconds; all zero without samples."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    most: float = 0.0

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Times":
        """By nearest rank."""
        ordered = sorted(seconds)
        if not ordered:
            return cls()
        return cls(len(ordered), _ranked(ordered, 0.5), _ranked(ordered, 0.99), ordered[-1])

    def __str__(self) -> str:
        return f"{_ms(self.p50)} / {_ms(self.p99)} / {_ms(self.most)} ms"


def within(samples: Iterable[tuple[float, float]], spans: Sequence[Span], phase: Phase) -> Times:
    """The times of those (at, seconds) whose `at` lies in a span of that phase."""
    chosen = [(span.begin, span.end) for span in spans if span.phase is phase]
    return Times.of(seconds for at, seconds in samples if any(begin <= at < end for begin, end in chosen))


def _ranked(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"
