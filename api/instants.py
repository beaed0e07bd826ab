"""Instants in queries."""

from datetime import UTC, datetime, tzinfo

from api.errors import invalid_parameter

_FIRST_YEAR = 1971  # of RFC 196, the first of them about mail


def read_instant(word: str, written: str | None, zone: tzinfo = UTC) -> datetime | None:
    """The instant of the parameter `word`; one without an offset is in `zone`. Raises ApiError 422, which names it."""
    if written is None:
        return None
    try:
        at = datetime.fromisoformat(written)
        at = (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError) as wrong:
        raise invalid_parameter(word, "It must be an ISO 8601 date.") from wrong
    if at.year < _FIRST_YEAR:
        raise invalid_parameter(word, f"There is no mail from before {_FIRST_YEAR}.")
    return at
