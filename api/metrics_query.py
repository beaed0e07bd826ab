"""The query of GET /emails/metrics: what is asked, of which time, and how it is broken down."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from fastapi.datastructures import QueryParams

from api.errors import invalid, invalid_parameter
from api.ids import parse_id
from api.instants import read_instant
from api.periods import LENGTHS

METRICS = (
    *("received", "delivered", "complained", "suppressed", "bounced"),
    *("bounced_transient", "bounced_permanent", "bounced_undetermined", "opened", "clicked", "unsubscribed"),
    *("delivery_delayed", "failed", "sent", "unique_opened", "unique_clicked", "delivery_rate", "open_rate"),
    *("click_rate", "bounce_rate", "complaint_rate", "unsubscribe_rate"),
)
DIMENSIONS = ("period", "domain", "email", "broadcast")
_SPAN = timedelta(days=6)
_MOST_PERIODS = 10_000
_MOST_IDS = 100


def _words(name: str, items: dict[str, Any], meaning: str) -> dict[str, Any]:
    schema = {"type": "array", "items": {"type": "string"} | items}
    return {"name": name, "in": "query", "style": "form", "explode": False, "schema": schema, "description": meaning}


def _word(name: str, schema: dict[str, Any], meaning: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string"} | schema, "description": meaning}


_ID = {"format": "uuid"}
PARAMETERS = {
    "parameters": [
        _word("start_date", {}, "ISO 8601, in `timezone` where it has no offset; unset: 6 days before the end"),
        _word("end_date", {}, "ISO 8601, not included; unset: now"),
        _word("timezone", {"default": "UTC"}, "IANA name of the zone that periods begin in"),
        _word("granularity", {"enum": list(LENGTHS), "default": "daily"}, "Length of a period"),
        _words("metrics", {"enum": list(METRICS)}, "Unset: all"),
        _words("dimensions", {"enum": list(DIMENSIONS)}, "What to break down by; `email` needs `email_id`"),
        _words("domain_id", _ID, "Only mail from these domains"),
        _words("email_id", _ID, "Only these emails"),
        _words("broadcast_id", _ID, "There are none here, so the numbers are 0"),
    ]
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `until` is not included; ids of None: of all."""

    since: datetime
    until: datetime
    zone: ZoneInfo
    granularity: str
    metrics: tuple[str, ...]
    dimensions: tuple[str, ...]
    domain_ids: tuple[str, ...] | None
    email_ids: tuple[str, ...] | None
    broadcast_ids: tuple[str, ...] | None


def read_question(query: QueryParams, *, now: datetime) -> Question:
    """The question. Raises ApiError 422, which names the parameter."""
    zone, granularity = _zone(query.get("timezone", "UTC")), query.get("granularity", "daily")
    if granularity not in LENGTHS:
        raise invalid_parameter("granularity", f"It must be one of {', '.join(LENGTHS)}.")
    until = min(read_instant("end_date", query.get("end_date"), zone) or now, now)
    since = read_instant("start_date", query.get("start_date"), zone) or until - _SPAN
    if since > until:
        raise invalid_parameter("start_date", "It must not be after `end_date`, nor in the future.")
    question = Question(
        since=since,
        until=until,
        zone=zone,
        granularity=granularity,
        metrics=_chosen(query, "metrics", METRICS) or METRICS,
        dimensions=_chosen(query, "dimensions", DIMENSIONS),
        domain_ids=_ids(query, "domain_id"),
        email_ids=_ids(query, "email_id"),
        broadcast_ids=_ids(query, "broadcast_id"),
    )
    _require_sense(question)
    return question


def _require_sense(question: Question) -> None:
    by_email = "email" in question.dimensions
    if (by_email or question.email_ids) and ("broadcast" in question.dimensions or question.broadcast_ids):
        raise invalid("Emails and broadcasts cannot be asked for together.")
    if by_email and not question.email_ids:
        raise invalid_parameter("dimensions", "`email` needs an `email_id`: the emails are listed by GET /emails.")
    periods = (question.until - question.since) / LENGTHS[question.granularity]
    if "period" in question.dimensions and periods > _MOST_PERIODS:
        raise invalid_parameter("granularity", f"There would be more than {_MOST_PERIODS:,} periods.")


def _zone(name: str) -> ZoneInfo:
    if name not in available_timezones():
        raise invalid_parameter("timezone", "It must be the IANA name of a time zone.")
    return ZoneInfo(name)


def _split(query: QueryParams, name: str) -> tuple[str, ...]:
    """The words of a parameter that may be repeated and may have several with commas between, each once."""
    return tuple(dict.fromkeys(word for given in query.getlist(name) for word in given.split(",") if word))


def _chosen(query: QueryParams, name: str, known: Iterable[str]) -> tuple[str, ...]:
    words = _split(query, name)
    if set(words) - set(known):
        raise invalid_parameter(name, f"Its words may be {', '.join(known)}.")
    return words


def _ids(query: QueryParams, name: str) -> tuple[str, ...] | None:
    ids = tuple(parse_id(word, field=name) for word in _split(query, name))
    if len(ids) > _MOST_IDS:
        raise invalid_parameter(name, f"It may have up to {_MOST_IDS} ids.")
    return ids or None
