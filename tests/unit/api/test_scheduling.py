"""Times as people write them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.scheduling import parse_scheduled_at

NOW = datetime(2026, 11, 21, 20, 30, tzinfo=UTC)  # a Saturday


def at(written: str) -> str:
    found = parse_scheduled_at(written, now=NOW, horizon=timedelta(days=30))
    return found.strftime("%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-11-22T08:00:00Z", "11-22 08:00:00"),
        ("2026-11-22T08:00:00.5+02:00", "11-22 06:00:00"),
        ("2026-11-22 08:00", "11-22 08:00:00"),  # without a zone: UTC
        ("in 1 min", "11-21 20:31:00"),
        ("in 1 hour", "11-21 21:30:00"),
        ("tomorrow at 9am", "11-22 09:00:00"),
        ("Friday at 3pm ET", "11-27 20:00:00"),
        ("november 25 at 8am PT", "11-25 16:00:00"),
        ("next monday at 10am", "11-23 10:00:00"),
        ("2020-01-01T00:00:00Z", "11-21 20:30:00"),  # passed: now
        ("1 hour ago", "11-21 20:30:00"),
    ],
)
def test_what_is_understood(written, instant):
    """ISO 8601, and the words that Resend documents."""
    assert at(written) == instant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "17",
        "1764000000",
        "x" * 101,
        "2027-11-22T08:00:00Z",
        "in 31 days",
        "in 7973 years 40 days 10 hours PT",
    ],
)
def test_what_is_refused(written):
    """Anything else, and anything beyond the horizon."""
    with pytest.raises(ApiError, match="Invalid `scheduled_at` field"):
        at(written)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_an_error(written):
    """Whatever is written gives an instant within the horizon, or an error."""
    try:
        found = parse_scheduled_at(written, now=NOW, horizon=timedelta(days=30))
    except ApiError:
        return
    assert NOW <= found <= NOW + timedelta(days=30)
