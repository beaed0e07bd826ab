"""Which lanes get a channel next. Pure: the clock is handed in.

Every due lane gets its first channel before any gets a second one. A lane whose next hop cannot be reached pauses, so
dead destinations never take the connections of the living.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

PAUSE_FIRST, PAUSE_MOST = 0.25, 60.0  # seconds without a channel after a failed connection; doubles
PAUSE_EMPTY = 0.05  # seconds after a lane had nothing for us although it was due: other workers are on it


def plan(due: Sequence[str], at_work: Mapping[str, int], *, deep: AbstractSet[str], free: int, most: int) -> list[str]:
    """The lanes to open a channel for, one entry per channel.

    `due` is in order of age; `at_work` counts our channels per lane; `deep` lanes have more work than theirs can hold;
    `free` channels may be opened, at most `most` for one lane.
    """
    chosen = [lane for lane in due if not at_work.get(lane)][: max(free, 0)]
    growing = [lane for lane in due if lane in deep and 0 < at_work.get(lane, 0) < most]
    return chosen + growing[: max(free - len(chosen), 0)]


@dataclass(frozen=True, slots=True)
class _Pause:
    until: float
    failures: int


class Pauses:
    """Lanes that are left alone for a while. All times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._pauses: dict[str, _Pause] = {}

    def __len__(self) -> int:
        return len(self._pauses)

    def failed(self, lane: str, *, now: float) -> None:
        """Its next hop could not be reached. Channels that lose it in the same moment say so once."""
        if not self.over(lane, now=now) and self._failures(lane):
            return
        failures = self._failures(lane) + 1
        self._pauses[lane] = _Pause(now + min(PAUSE_FIRST * 2 ** min(failures - 1, 16), PAUSE_MOST), failures)

    def empty(self, lane: str, *, now: float) -> None:
        """It was due, and there was nothing to claim."""
        self._pauses[lane] = _Pause(now + PAUSE_EMPTY, self._failures(lane))

    def worked(self, lane: str) -> None:
        """Its next hop talked to us."""
        self._pauses.pop(lane, None)

    def over(self, lane: str, *, now: float) -> bool:
        """Whether the lane may have a channel."""
        pause = self._pauses.get(lane)
        return pause is None or pause.until <= now

    def next_end(self, *, now: float) -> float | None:
        """Seconds until the next pause is over; None without pauses ahead."""
        ahead = [pause.until - now for pause in self._pauses.values() if pause.until > now]
        return min(ahead, default=None)

    def forget(self, *, now: float) -> None:
        """Drop what has long been over, so that the book does not grow with every domain ever seen."""
        self._pauses = {lane: pause for lane, pause in self._pauses.items() if pause.until + 2 * PAUSE_MOST > now}

    def _failures(self, lane: str) -> int:
        pause = self._pauses.get(lane)
        return pause.failures if pause else 0
