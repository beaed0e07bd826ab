"""One batch of events in one transaction with its checkpoint: all of it is in the tables, or none."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from history import tables
from history.moves import Row
from history.projection import Changes, Known, Projection, touched
from history.tally import COUNTED, domain_of, slot_of
from history.upserts import insert_contents, insert_new, one_of, update, upsert
from outbox.events import Event
from outbox.stream import Recorded
from runtime.clock import from_ms
from runtime.compression import compress

_CHANGING_EMAIL = ("scheduled_at", "scheduled_number", "complained", "last_event")
_CHANGING_RECIPIENT = (
    *("state", "number", "outcome", "outcome_number", "code", "status", "text", "updated_at", "ended_at"),
)
_KNOWN_EMAIL = ("id", "number", "reverse_path", *_CHANGING_EMAIL)
_END = 253_402_300_800_000  # ms: the year 10000, which no datetime holds
_CHANGING_POLICY = ("value", "number", "updated_at")


def read_checkpoint(db: sa.Connection) -> int | None:
    """The number of the last event in the tables; None if the row is missing."""
    number: int | None = db.scalar(sa.select(tables.checkpoint.c.number))
    return number


def write_batch(db: sa.Connection, checkpoint: int, batch: Sequence[Recorded], *, now: datetime) -> list[int] | None:
    """Write what follows `checkpoint`, which must still be the checkpoint; the caller commits.

    Returns the numbers of events that could not be read; None if another recorder was first and nothing was written.
    Numbers may be older than what the tables hold (a restored backup, a replay): such events change nothing.
    """
    last = max(recorded.event.number for recorded in batch)
    # First, since it locks the row: what is read below is then nobody else's to change until the commit.
    moved = db.execute(
        sa.update(tables.checkpoint).where(tables.checkpoint.c.number == checkpoint).values(number=last, updated_at=now)
    )
    if moved.rowcount != 1:
        return None
    projection = Projection(_known(db, [recorded.event for recorded in batch]))
    for recorded in sorted(batch, key=lambda recorded: recorded.event.number):
        projection.apply(recorded.event, recorded.content)
    changes = projection.changes()
    _write(db, changes)
    return changes.unreadable


def _known(db: sa.Connection, events: Sequence[Event]) -> Known:
    """What the tables hold of the messages and policy objects in these events."""
    ids = touched(events)
    known = Known()
    for email in _rows_of(db, tables.emails, tables.emails.c.id, ids, columns=_KNOWN_EMAIL):
        known.emails[email["id"]] = email
    for row in _rows_of(db, tables.recipients, tables.recipients.c.email_id, ids):
        known.recipients.setdefault(row["email_id"], {})[row["idx"]] = row
    if any(event.fields.get("kind") == "policy_changed" for event in events):
        objects = tables.policy_objects.c
        for kind, name, number in db.execute(sa.select(objects.kind, objects.name, objects.number)):
            known.policy[kind, name] = number
    known.counts = _counts(db, events, known)
    return known


def _counts(db: sa.Connection, events: Sequence[Event], known: Known) -> list[Row]:
    """What is counted already of the quarters of an hour and the domains of these events."""
    told = (event.fields.get("message") for event in events)
    paths = {message.get("reverse_path") for message in told if isinstance(message, dict)}
    paths |= {email["reverse_path"] for email in known.emails.values()}
    instants = (event.fields.get("at") for event in events)
    slots = {slot_of(from_ms(at)) for at in instants if isinstance(at, int) and 0 <= at < _END}
    if not slots:
        return []
    counts = tables.email_counts
    domains = one_of(db, counts.c.domain, list({domain_of(path) for path in paths if isinstance(path, str)}))
    found = db.execute(sa.select(counts).where(counts.c.slot.between(min(slots), max(slots)), domains))
    names = [str(column.name) for column in counts.c]
    return [dict(zip(names, row, strict=True)) for row in found]


def _rows_of(
    db: sa.Connection, table: sa.Table, key: sa.Column[str], ids: Sequence[str], *, columns: Sequence[str] = ()
) -> list[Row]:
    """Rows whose key is one of `ids`."""
    names = columns or [str(column.name) for column in table.c]
    found = db.execute(sa.select(*(table.c[name] for name in names)).where(one_of(db, key, ids)))
    return [dict(zip(names, row, strict=True)) for row in found]


def _write(db: sa.Connection, changes: Changes) -> None:
    upsert(db, tables.emails, changes.emails, changing=_CHANGING_EMAIL)
    update(db, tables.emails, changes.changed_emails, changing=_CHANGING_EMAIL)
    upsert(db, tables.recipients, changes.recipients, changing=_CHANGING_RECIPIENT)
    insert_new(db, tables.events, changes.events)
    insert_contents(db, {email_id: compress(raw) for email_id, raw in changes.contents.items()})
    upsert(db, tables.policy_objects, changes.policy_objects, changing=_CHANGING_POLICY)
    upsert(db, tables.email_counts, changes.counts, changing=("number", *COUNTED))
