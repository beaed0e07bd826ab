from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from api.periods import LENGTHS, period_of, periods_between

AT = datetime(2026, 11, 1, 5, 45, tzinfo=UTC)  # a Sunday; in New York the clock goes back at 06:00 UTC
NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("granularity", "begin"),
    [
        ("hourly", "2026-11-01T01:00:00-04:00"),
        ("daily", "2026-11-01T00:00:00-04:00"),
        ("weekly", "2026-10-26T00:00:00-04:00"),
        ("monthly", "2026-11-01T00:00:00-04:00"),
    ],
)
def test_a_period_begins_by_the_clocks_of_its_zone(granularity, begin):
    assert period_of(AT, granularity, NEW_YORK).isoformat() == begin


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Sao_Paulo"])
@pytest.mark.parametrize("granularity", LENGTHS)
def test_periods_follow_each_other(zone, granularity):
    """Over a year, with every turn of the clocks, each instant is in one of the periods between, and they advance."""
    zone = ZoneInfo(zone)
    since = datetime(2017, 1, 15, 3, 30, tzinfo=UTC)
    until = since + timedelta(days=366)
    periods = [period.astimezone(UTC) for period in periods_between(since, until, granularity, zone)]
    assert all(one < other for one, other in pairwise(periods))
    assert periods[0] <= since
    step = timedelta(minutes=30)
    instants = (since + step * n for n in range((until - since) // step))
    assert {period_of(at, granularity, zone).astimezone(UTC) for at in instants} == set(periods)
