"""How many of what there were, by quarter of an hour and sender's domain: so nobody has to count a million rows. Pure.

A row names the last event that it counts, so a replayed, older event is not counted again.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache

from history.moves import Row
from outbox.bounces import bounce_of
from outbox.message import Outcome
from outbox.states import State
from runtime.clock import REMEMBERED, from_ms, to_ms

_SLOT = 15 * 60 * 1000  # ms of a slot: the hours and days of every time zone begin with one
COUNTED = (
    *("sent", "delivered", "delivery_delayed", "bounced_permanent", "bounced_transient", "bounced_undetermined"),
    *("suppressed", "complained", "failed", "opened", "clicked", "unique_opened", "unique_clicked"),
)

Key = tuple[int, str]  # a slot by its place in time, and a domain in lower case


@lru_cache(maxsize=REMEMBERED)
def _place(at: datetime) -> int:
    return to_ms(at) // _SLOT


def slot_of(at: datetime) -> datetime:
    """The quarter of an hour in which it is."""
    return from_ms(_place(at) * _SLOT)


def domain_of(reverse_path: str) -> str:
    """The sender's; empty for mail that no bounce may answer (RFC 5321 section 4.5.5)."""
    return reverse_path.rpartition("@")[2].lower()


def counted_as(outcome: Outcome) -> str:
    """The one of COUNTED that an attempt's outcome is."""
    match outcome.state:
        case State.FAILED:
            return f"bounced_{bounce_of(outcome.status)[0].lower()}"
        case State.DEFERRED:
            return "delivery_delayed"
    return str(outcome.state)


class Tally:
    """Counts events, in the order of their numbers, into rows of `email_counts`."""

    def __init__(self, known: Iterable[Row]) -> None:
        self._rows: dict[Key, Row] = {(_place(row["slot"]), row["domain"]): row for row in known}
        self._known = frozenset(self._rows)
        self._moved: dict[Key, None] = {}

    def add(self, number: int, at: datetime, domain: str, amounts: Mapping[str, int]) -> None:
        """Count one event, unless its row counts it already."""
        key = _place(at), domain
        row = self._rows.get(key)
        if row is None:
            empty: Row = {"slot": slot_of(at), "domain": domain, "number": 0, **dict.fromkeys(COUNTED, 0)}
            row = self._rows[key] = empty
        if number <= row["number"] or not any(amounts.values()):
            return
        row["number"] = number
        for name, amount in amounts.items():
            row[name] += amount
        self._moved[key] = None

    def new(self) -> list[Row]:
        """The rows to insert."""
        return [self._rows[key] for key in self._moved if key not in self._known]

    def changed(self) -> list[Row]:
        """The rows to change."""
        return [self._rows[key] for key in self._moved if key in self._known]
