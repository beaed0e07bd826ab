"""Whether the recorder lets others go first: on a full machine mail is taken and delivered before it is recorded.

A low priority alone does not do it. What waits for a disk or a reply leaves gaps, the recorder fills them with batches
of a few events, and each of these costs nearly what a large one does.
"""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

_STAT = Path("/proc/stat")  # Linux; elsewhere nobody stands back
_ROOM = 0.5  # of one processor: with less of it idle the machine is full
_LONGEST = timedelta(seconds=5)  # how far behind the history may be for the sake of others

Ticks = tuple[int, int]  # idle, all


class StandingBack:
    """Looks at the time between two questions, in which the recorder itself did nothing."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        read: Callable[[], Ticks | None] | None = None,
        processors: int = os.cpu_count() or 1,
    ) -> None:
        self._now = now
        self._processors = processors
        self._read = read or processor_time
        self._before: Ticks | None = None

    def is_young(self, recorded_until: datetime | None) -> bool:
        """Whether so little time lies behind the newest event that is recorded that the history can wait."""
        return recorded_until is not None and self._now() - recorded_until < _LONGEST

    def begin(self) -> None:
        """A rest begins."""
        self._before = self._read()

    def goes_on(self, recorded_until: datetime | None) -> bool:
        """Whether to rest on."""
        before, self._before = self._before, self._read()
        if before is None or self._before is None or not self.is_young(recorded_until):
            return False
        idle, time = self._before[0] - before[0], self._before[1] - before[1]
        return time > 0 and idle * self._processors < _ROOM * time


def processor_time() -> Ticks | None:
    """What proc(5) tells of all processors since the machine started, in ticks; None where there is no such file."""
    try:
        words = _STAT.read_text().partition("\n")[0].split()
    except OSError:
        return None
    times = [int(word) for word in words[1:9]]  # user, nice, system, idle, iowait, irq, softirq, steal
    return times[3] + times[4], sum(times)
