"""The answer of GET /emails/metrics, made of counts. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from api.metrics_query import Question
from api.periods import period_of, periods_between
from history.counting import Count
from runtime.clock import iso

_RATES = {  # of what, to what
    "delivery_rate": ("delivered", "sent"),
    "open_rate": ("unique_opened", "delivered"),
    "click_rate": ("unique_clicked", "delivered"),
    "bounce_rate": ("bounced", "sent"),
    "complaint_rate": ("complained", "delivered"),
    "unsubscribe_rate": ("unsubscribed", "delivered"),
}
_BOUNCES = ("bounced_permanent", "bounced_transient", "bounced_undetermined")

Place = tuple[str | None, ...]  # of a row, by the dimensions that are asked for


def answer(question: Question, counts: Iterable[Count], domain_ids: Mapping[str, str]) -> dict[str, Any]:
    """Totals, and rows where it is to be broken down. `domain_ids`: of the domains that are managed here, by name."""
    totals: Counter[str] = Counter()
    rows: defaultdict[Place, Counter[str]] = defaultdict(Counter)
    if question.dimensions == ("period",):  # a chart wants its empty days as well
        periods = periods_between(question.since, question.until, question.granularity, question.zone)
        rows |= {(period.isoformat(),): Counter() for period in periods}
    for count in counts:
        totals.update(count.amounts)
        rows[_place(question, count)].update(count.amounts)
    whole = {
        "object": "metrics",
        "start_date": iso(question.since),
        "end_date": iso(question.until),
        "metrics": question.metrics,
        "dimensions": question.dimensions,
        "granularity": question.granularity,
        "totals": _shown(question, totals),
    }
    if not question.dimensions:
        return whole
    data = [_named(question, place, domain_ids) | _shown(question, rows[place]) for place in sorted(rows, key=str)]
    return whole | {"data": data}


def _place(question: Question, count: Count) -> Place:
    found = {"domain": count.domain, "email": count.email_id}
    if count.at is not None:
        at = max(count.at, question.since)  # of the first quarter of an hour a part may lie before
        found["period"] = period_of(at, question.granularity, question.zone).isoformat()
    return tuple(found.get(dimension) for dimension in question.dimensions)


def _named(question: Question, place: Place, domain_ids: Mapping[str, str]) -> dict[str, Any]:
    row = dict(zip(question.dimensions, place, strict=True))
    if "domain" in row:
        name = row.pop("domain") or ""
        row |= {"domain_id": domain_ids.get(name), "domain_name": name}
    for dimension in {"email", "broadcast"} & row.keys():
        row[f"{dimension}_id"] = row.pop(dimension)
    return row


def _shown(question: Question, amounts: Mapping[str, int]) -> dict[str, float]:
    known = Counter(amounts) + Counter(bounced=sum(amounts.get(name, 0) for name in _BOUNCES))
    return {metric: _rate(known, *_RATES[metric]) if metric in _RATES else known[metric] for metric in question.metrics}


def _rate(amounts: Mapping[str, int], part: str, whole: str) -> float:
    return round(amounts[part] / amounts[whole], 6) if amounts[whole] else 0.0
