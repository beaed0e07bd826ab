"""The periods that numbers are broken down by: hours, days, weeks and months by the clocks of a zone. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

LENGTHS = {  # at least
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(weeks=1),
    "monthly": timedelta(days=28),
}
# How much further the next one is looked for, so that no turn of the clock and no longer month is in the way.
_SPARE = {"hourly": timedelta(0), "monthly": timedelta(days=5)}
_TURN = timedelta(hours=3)


def period_of(at: datetime, granularity: str, zone: ZoneInfo) -> datetime:
    """The beginning of the period that it is in. Weeks begin on Monday (ISO 8601)."""
    local = at.astimezone(zone)
    if granularity == "hourly":
        past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return (local.astimezone(UTC) - past).astimezone(zone)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match granularity:
        case "weekly":
            return day - timedelta(days=day.weekday())
        case "monthly":
            return day.replace(day=1)
    return day


def periods_between(since: datetime, until: datetime, granularity: str, zone: ZoneInfo) -> Iterator[datetime]:
    """The beginnings of all periods of the time, without a gap."""
    begin = period_of(since, granularity, zone)
    while begin < until:
        yield begin
        next_one = begin.astimezone(UTC) + LENGTHS[granularity] + _SPARE.get(granularity, _TURN)
        begin = period_of(next_one, granularity, zone)
