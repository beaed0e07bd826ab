"""What the fold made is what the tables hold, on both databases."""

import pytest
from sqlalchemy.exc import IntegrityError

from history import tables
from history.projection import Known, Projection
from history.writes import insert
from outbox import events
from outbox.message import Outcome
from outbox.states import State
from tests.fixtures.event_log import START, EventLog, attempted, make_message, tell_story
from tests.fixtures.history import record_all, rows_of


def as_stored(value):
    """JSON knows no tuples."""
    return [as_stored(part) for part in value] if isinstance(value, list | tuple) else value


def folded(log: EventLog):
    projection = Projection(Known())
    for recorded in log.records:
        projection.apply(recorded.event, recorded.content)
    return projection.changes()


@pytest.mark.parametrize("batch", [1000, 1])
def test_rows_are_stored_as_they_were_folded(database, batch):
    """Every value of new rows, and of rows that changed later, comes back as it was, to the millisecond."""
    log = EventLog()
    scheduled = make_message(7, to=("Ünal@bücher.example",), scheduled_at=START.replace(hour=13, microsecond=7_000))
    log.append(events.accepted(scheduled), b"content")
    tell_story(log, 1)
    record_all(database, log, batch=batch)
    stored, changes = rows_of(database), folded(log)
    for table, rows in ((tables.emails, changes.emails), (tables.recipients, changes.recipients)):
        expected = [tuple(as_stored(row[column.name]) for column in table.c) for row in rows]
        assert stored[table.name] == sorted(expected, key=lambda row: row[:2])
    assert [row[0] for row in stored["events"]] == list(range(1, log.newest() + 1))
    assert [row[4] for row in stored["events"]] == [row["body"] for row in changes.events]


def test_nul_characters_are_replaced(database):
    """PostgreSQL's text holds no NUL: one in any text of an event, or deep in its JSON, becomes U+FFFD."""
    log = EventLog()
    message = make_message(1)
    hostile = message.to_dict() | {"subject": "a\x00b", "tags": [["na\x00me", "\\u0000"]]}
    log.append(events.cancelled("no\x00id", at=START))
    log.append(events.accepted(type(message).from_dict(hostile)))
    record_all(database, log)
    log.append(attempted(message, [Outcome(0, State.DEFERRED, 451, "4.3.0", "la\x00ter")], at=START))
    record_all(database, log)
    (email,) = rows_of(database)["emails"]
    (recipient,) = rows_of(database)["recipients"]
    cancelled, _, tried = rows_of(database)["events"]
    columns = tables.emails.c.keys()
    assert (email[columns.index("subject")], email[columns.index("tags")]) == ("a\ufffdb", [["na\ufffdme", "\\u0000"]])
    assert recipient[tables.recipients.c.keys().index("text")] == "la\ufffdter"
    assert (cancelled[1], tried[4]["outcomes"][0]["text"]) == ("no\ufffdid", "la\ufffdter")


def test_a_refused_row_is_an_error_of_the_database(database):
    """However rows get there, what the database says against them reaches the recorder as SQLAlchemy's error."""
    rows = [{"email_id": "one", "raw": b"1"}, {"email_id": "two", "raw": b"2"}]
    with database.connect() as db:
        insert(db, tables.contents, rows)
        db.commit()
        with pytest.raises(IntegrityError):
            insert(db, tables.contents, [{"email_id": "three", "raw": b"3"}, *rows])
        db.rollback()
    assert rows_of(database)["contents"] == [("one", b"1"), ("two", b"2")]
