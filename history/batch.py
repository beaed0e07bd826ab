"""One batch of events in one transaction with its checkpoint: all of it is in the tables, or none."""

from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import TypeGuard

import sqlalchemy as sa

from history import tables
from history.moves import Row
from history.projection import Changes, Known, Projection, Telling, telling, touched
from history.tally import COUNTED, domain_of, slot_of
from history.writes import insert, rows_of, update
from outbox.events import Event
from outbox.packing import frame
from outbox.stream import Recorded
from runtime.clock import from_ms, to_ms

_CHANGING_EMAIL = ("scheduled_at", "scheduled_number", "complained", "reaction", "last_event")
_CHANGING_RECIPIENT = (
    *("state", "number", "outcome", "outcome_number", "code", "status", "text", "updated_at", "ended_at"),
)
_KNOWN_EMAIL = ("id", "number", "reverse_path", *_CHANGING_EMAIL)
_END = 253_402_300_800_000  # ms: the year 10000, which no datetime holds
_CHANGING_POLICY = ("value", "number", "updated_at")
_number = attrgetter("event.number")


def read_checkpoint(db: sa.Connection) -> int | None:
    """The number of the last event in the tables; None if the row is missing."""
    number: int | None = db.scalar(sa.select(tables.checkpoint.c.number))
    return number


def write_batch(db: sa.Connection, checkpoint: int, batch: Sequence[Recorded], *, now: datetime) -> list[int] | None:
    """Write what follows `checkpoint`, which must still be the checkpoint; the caller commits.

    Returns the numbers of events that could not be read; None if another recorder was first and nothing was written.
    Numbers may be older than what the tables hold (a restored backup, a replay): such events change nothing.
    """
    batch = sorted(batch, key=_number)
    last = _number(batch[-1])
    # First, since it locks the row: what is read below is then nobody else's to change until the commit.
    moved = db.execute(
        sa.update(tables.checkpoint).where(tables.checkpoint.c.number == checkpoint).values(number=last, updated_at=now)
    )
    if moved.rowcount != 1:
        return None
    projection = Projection(_known(db, batch))
    for event, packed in batch:
        projection.apply(event, packed)
    changes = projection.changes()
    _write(db, changes)
    return changes.unreadable


def _known(db: sa.Connection, batch: Sequence[Recorded]) -> Known:
    """What the tables hold of these events, in order, of their messages and of their policy objects."""
    events = [event for event, _ in batch]
    ids = touched(events)
    with_content = touched([event for event, packed in batch if packed is not None])
    emails, recipients, contents = tables.emails.c, tables.recipients.c, tables.contents.c
    known = Known()
    for email in rows_of(db, emails.id, ids, [emails[name] for name in _KNOWN_EMAIL]):
        known.emails[email["id"]] = email
    for row in rows_of(db, recipients.email_id, ids, list(recipients)):
        known.recipients.setdefault(row["email_id"], {})[row["idx"]] = row
    known.contents = {row["email_id"] for row in rows_of(db, contents.email_id, with_content, [contents.email_id])}
    known.events = _numbers(db, events)
    if any(event.fields.get("kind") == "policy_changed" for event in events):
        objects = tables.policy_objects.c
        for kind, name, number in db.execute(sa.select(objects.kind, objects.name, objects.number)):
            known.policy[kind, name] = number
    known.counts = _counts(db, events, known)
    known.told = _told(db, events)
    return known


def instant_of(event: Event) -> datetime | None:
    """When it happened; None where it does not say so in a way that can be read."""
    at = event.fields.get("at")
    return from_ms(at) if _is_instant(at) else None


def _is_instant(at: object) -> TypeGuard[int]:
    return isinstance(at, int) and 0 <= at < _END


def _numbers(db: sa.Connection, events: Sequence[Event]) -> set[int]:
    """The numbers that are there, from the first to the last of these."""
    number = tables.events.c.number
    return set(db.scalars(sa.select(number).where(number.between(events[0].number, events[-1].number))))


def _counts(db: sa.Connection, events: Sequence[Event], known: Known) -> list[Row]:
    """What is counted already of the quarters of an hour and the domains of these events."""
    told = (event.fields.get("message") for event in events)
    paths = {message.get("reverse_path") for message in told if isinstance(message, dict)}
    paths |= {email["reverse_path"] for email in known.emails.values()}
    instants = [at for event in events if _is_instant(at := event.fields.get("at"))]
    if not instants:
        return []
    first, last = slot_of(from_ms(min(instants))), slot_of(from_ms(max(instants)))
    counts = tables.email_counts.c
    domains = list({domain_of(path) for path in paths if isinstance(path, str)})
    return rows_of(db, counts.domain, domains, list(counts), within=(counts.slot, first, last))


def _told(db: sa.Connection, batch: Sequence[Event]) -> dict[Telling, int]:
    """The first number of what is told of the messages of which a rebuild of the queue tells something again."""
    ids = [email_id for email_id in touched(event for event in batch if event.fields.get("restored")) if email_id]
    if not ids:
        return {}
    events = tables.events.c
    rows = rows_of(db, events.email_id, ids, [events.number, events.email_id, events.kind, events.at, events.body])
    told = [(event.number, event.fields) for event in batch]
    for row in rows:
        fields = {"kind": row["kind"], "at": to_ms(row["at"]), "id": row["email_id"]}
        told.append((row["number"], row["body"] | fields))
    told.sort(key=itemgetter(0), reverse=True)  # so that of those that tell the same the first one stays
    return {telling(fields): number for number, fields in told}


def _write(db: sa.Connection, changes: Changes) -> None:
    insert(db, tables.emails, changes.emails)
    update(db, tables.emails, changes.changed_emails, changing=_CHANGING_EMAIL)
    insert(db, tables.recipients, changes.recipients)
    update(db, tables.recipients, changes.changed_recipients, changing=_CHANGING_RECIPIENT)
    insert(db, tables.events, changes.events)
    contents = changes.contents.items()
    if contents:  # the server takes in one while the next is compressed
        insert(db, tables.contents, ({"email_id": email_id, "raw": frame(packed)} for email_id, packed in contents))
    insert(db, tables.policy_objects, changes.policy_objects)
    update(db, tables.policy_objects, changes.changed_policy_objects, changing=_CHANGING_POLICY)
    insert(db, tables.email_counts, changes.counts)
    update(db, tables.email_counts, changes.changed_counts, changing=("number", *COUNTED))
