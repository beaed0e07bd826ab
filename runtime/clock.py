"""Time as this project passes it round: aware UTC instants in code, integer milliseconds on the wire."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

# Of how many instants other forms are remembered: a mail's records share theirs, as do mails of a moment under load.
REMEMBERED = 1000


def now() -> datetime:
    """The wall clock, aware UTC, to the millisecond, so that it comes back unchanged from every store.

    Pure code takes ``now`` as an argument and never calls this.
    """
    return from_ms(time.time_ns() // 1_000_000)


def to_ms(instant: datetime) -> int:
    """Milliseconds since the epoch: the form in which Redis scores, journals and events carry an instant."""
    return round(instant.timestamp() * 1000)


@lru_cache(maxsize=REMEMBERED)
def from_ms(ms: float | str | bytes) -> datetime:
    """The aware UTC instant of `ms` milliseconds since the epoch."""
    return datetime.fromtimestamp(float(ms) / 1000, UTC)


def ms_of(duration: timedelta) -> int:
    """A duration in whole milliseconds."""
    return round(duration.total_seconds() * 1000)


def iso(instant: datetime) -> str:
    """As JavaScript writes an instant: `2025-11-30T20:39:59.540Z`."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
