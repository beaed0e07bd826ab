"""When a message is to be sent: ISO 8601, or English words as Resend takes them ("tomorrow at 9am", "in 1 hour")."""

import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from api.errors import ApiError, invalid

_LONGEST = 100
# People write "ET" all year round, which no abbreviation of a time zone database means.
_ZONES = {"ET": "America/New_York", "CT": "America/Chicago", "MT": "America/Denver", "PT": "America/Los_Angeles"}
_ZONE_AT_END = re.compile(r"\s(ET|CT|MT|PT)$", re.IGNORECASE)
_one_at_a_time = threading.Lock()  # dateparser keeps its locale data in module state


def parse_scheduled_at(written: str, *, now: datetime, horizon: timedelta) -> datetime:
    """The instant meant, aware UTC. One that has passed is taken as now: a retry that comes late must still be sent.

    Raises ApiError 422 when it cannot be read or lies more than `horizon` ahead.
    """
    written = written.strip()
    if len(written) > _LONGEST or written.isdigit():  # a bare number could be anything
        raise _unreadable()
    at = _iso(written) or _words(written, now)
    if at is None:
        raise _unreadable()
    if at > now + horizon:
        raise invalid(f"Invalid `scheduled_at` field. It must be within {horizon.days} days from now.")
    return max(at, now)


def _iso(written: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(written)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _words(written: str, now: datetime) -> datetime | None:
    import dateparser  # noqa: PLC0415  (takes 0.2 s, and few messages are scheduled in words)

    zone = ZoneInfo("UTC")
    if named := _ZONE_AT_END.search(written):
        zone = ZoneInfo(_ZONES[named[1].upper()])
        written = written[: named.start()]
    options: Any = {
        "RELATIVE_BASE": now.astimezone(zone).replace(tzinfo=None),
        "TIMEZONE": str(zone),
        "RETURN_AS_TIMEZONE_AWARE": True,
        "PREFER_DATES_FROM": "future",
    }
    try:
        with _one_at_a_time:
            at = dateparser.parse(written, languages=["en"], settings=options)
        return at.astimezone(UTC) if at else None
    except (ValueError, OverflowError, RecursionError):
        return None


def _unreadable() -> ApiError:
    return invalid(
        "Invalid `scheduled_at` field. It needs to be an ISO 8601 date, or words such as `in 1 hour` or "
        "`tomorrow at 9am`."
    )
