"""How many of what there were in a time: read from `email_counts`, which has a row per quarter of an hour and domain.

Of a few emails, named by their ids, the numbers are taken from their own rows.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from history.projection import Telling, telling
from history.tables import email_counts, emails, events, recipients
from history.tally import COUNTED, counted_as, domain_of, slot_of
from outbox.message import Outcome
from outbox.states import State

_EVENTS = ("complained", "opened", "clicked")
_NOT_SENT = frozenset({State.SCHEDULED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Count:
    """Numbers by the words of COUNTED; what they are not broken down by is None."""

    amounts: Mapping[str, int]
    at: datetime | None = None
    domain: str | None = None
    email_id: str | None = None


def counts(
    db: sa.Connection,
    since: datetime,
    until: datetime,
    *,
    domains: Collection[str] | None,
    by_time: bool,
    by_domain: bool,
    most: int,
) -> list[Count]:
    """Up to `most` counts of the quarters that begin in the time; the first one is the one that `since` is in."""
    table = email_counts.c
    groups = [table.slot] * by_time + [table.domain] * by_domain
    # PostgreSQL's sums are decimals, which Python reads slowly.
    amounts = [sa.cast(sa.func.coalesce(sa.func.sum(table[name]), 0), sa.BigInteger) for name in COUNTED]
    statement = sa.select(*groups, *amounts).where(table.slot >= slot_of(since), table.slot < until)
    if domains is not None:
        statement = statement.where(table.domain.in_(domains))
    found = db.execute(statement.group_by(*groups).limit(most))
    return [
        Count(
            dict(zip(COUNTED, row[len(groups) :], strict=True)),
            at=row[0] if by_time else None,
            domain=row[len(groups) - 1] if by_domain else None,
        )
        for row in found
    ]


def counts_of(db: sa.Connection, ids: Sequence[str]) -> list[Count]:
    """What became of each recipient of these emails, as counts of one or two things each."""
    return [*_of_recipients(db, ids), *_of_events(db, ids)]


def _of_recipients(db: sa.Connection, ids: Sequence[str]) -> Iterator[Count]:
    email, recipient = emails.c, recipients.c
    columns = (email.id, email.created_at, email.scheduled_at, email.reverse_path)
    each = (recipient.idx, recipient.state, recipient.code, recipient.status, recipient.updated_at)
    found = sa.select(*columns, *each).join(recipients, email.id == recipient.email_id).where(email.id.in_(ids))
    for row in db.execute(found):
        state, domain = State(row.state), domain_of(row.reverse_path)
        if state in _NOT_SENT:
            continue
        yield Count({"sent": 1}, row.scheduled_at or row.created_at, domain, row.id)
        word = "failed" if state is State.HELD else counted_as(Outcome(row.idx, state, row.code, row.status, ""))
        if word in COUNTED:
            yield Count({word: 1}, row.updated_at, domain, row.id)


def _of_events(db: sa.Connection, ids: Sequence[str]) -> Iterator[Count]:
    email, event = emails.c, events.c
    found = sa.select(email.id, email.reverse_path, event.kind, event.at, event.body).join(
        events, email.id == event.email_id
    )
    told: set[Telling] = set()
    for row in db.execute(found.where(email.id.in_(ids), event.kind.in_(_EVENTS)).order_by(event.number)):
        tells = telling(row.body | {"kind": row.kind, "at": row.at, "id": row.id})
        if row.body.get("restored") and tells in told:
            continue
        told.add(tells)
        amount = len(row.body.get("recipients", ("one",)))
        yield Count(Counter({row.kind: amount}), row.at, domain_of(row.reverse_path), row.id)
