"""Searching what was recorded, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from history.search import Search, conditions
from history.tables import emails
from outbox import events
from outbox.states import LastEvent
from tests.fixtures.event_log import START, EventLog, delivered, make_message
from tests.fixtures.history import record_all

MESSAGES = [
    make_message(0, to=("Ann@a.example", "bob@b.example")),
    replace(make_message(1, to=("ann@b.example",)), subject="100% off", tags=(("kind", "spring"), ("campaign", "x"))),
    replace(make_message(2, to=("cid@c.example",)), reverse_path="other@sender.example", tags=()),
]


@pytest.fixture
def recorded(database):
    """Three messages; the second was delivered."""
    log = EventLog()
    for message in MESSAGES:
        log.append(events.accepted(message))
    log.append(delivered(MESSAGES[1], at=START + timedelta(seconds=1)))
    record_all(database, log)
    return database


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [2, 1, 0]),
        ({"recipient": "Ann@A.example"}, [0]),
        ({"recipient": "bob@b.example"}, [0]),
        ({"recipient": "nobody@a.example"}, []),
        ({"domain": "B.example"}, [1, 0]),
        ({"sender": "other@Sender.example"}, [2]),
        ({"subject": "nEWS"}, [2, 0]),
        ({"subject": "100%"}, [1]),  # no pattern
        ({"subject": "%"}, [1]),
        ({"status": LastEvent.DELIVERED}, [1]),
        ({"status": LastEvent.QUEUED}, [2, 0]),
        ({"tag": ("campaign", None)}, [1, 0]),
        ({"tag": ("campaign", "spring")}, [0]),  # the second message has both words, in two tags
        ({"tag": ("spring", None)}, []),  # a value is no name
        ({"since": START + timedelta(milliseconds=1)}, [2, 1]),
        ({"until": START + timedelta(milliseconds=1)}, [0]),
        ({"domain": "b.example", "status": LastEvent.DELIVERED, "tag": ("kind", "spring")}, [1]),
    ],
)
def test_what_is_found(history, recorded, asked, found):
    """Each condition finds what it says, the newest first; several find what all of them do."""
    stored = history.page(limit=10, search=Search(**asked))
    assert [email.message for email in stored] == [MESSAGES[number] for number in found]


def test_a_search_has_pages(history, recorded):
    """Cursors hold within what is found."""
    search = Search(status=LastEvent.QUEUED)
    first = history.page(limit=1, search=search)
    rest = history.page(limit=5, after=history.locate(first[0].message.id), search=search)
    assert [email.message for email in (*first, *rest)] == [MESSAGES[2], MESSAGES[0]]


def explained(_db, _cursor, statement, parameters, _context, _many):
    """The question turned into one about its plan."""
    return f"EXPLAIN {statement}", parameters


@pytest.mark.parametrize(
    ("search", "index"),
    [
        (Search(tag=("campaign", "spring")), "emails_by_tag"),
        (Search(sender="news@sender.example"), "emails_by_sender"),
        (Search(status=LastEvent.BOUNCED), "emails_by_status"),
        (Search(domain="b.example"), "recipients_by_domain"),
        (Search(recipient="bob@b.example"), "recipients_by_address"),
    ],
)
def test_each_search_has_its_index(recorded, search, index):
    """PostgreSQL can use the index made for it. It would read three rows whole, so that is forbidden."""
    if recorded.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no index over JSON")
    with recorded.connect() as db:
        db.execute(sa.text("SET LOCAL enable_seqscan = off"))
        sa.event.listen(db, "before_cursor_execute", explained, retval=True)
        plan = "\n".join(db.scalars(sa.select(emails.c.id).where(*conditions(search, "postgresql"))))
    assert index in plan
