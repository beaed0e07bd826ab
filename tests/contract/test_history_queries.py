"""Reading what was recorded, on both databases."""

import pytest

from history import schema
from history.errors import HistoryUnavailable
from outbox import events
from outbox.message import Outcome
from outbox.states import LastEvent, State
from tests.fixtures.event_log import CONTENT, START, EventLog, make_message, tell_story
from tests.fixtures.history import record_all


@pytest.fixture
def told(database):
    """Three stories, recorded."""
    log = EventLog()
    messages = [tell_story(log, number) for number in range(3)]
    record_all(database, log)
    return messages


def test_an_email_is_found_as_it_was(history, told):
    """A stored email holds the message as accepted, its content, and each recipient's state and last outcome."""
    email = history.find(told[0].id)
    assert email.message == told[0]
    assert email.content == CONTENT
    assert email.states == (State.DELIVERED, State.DELIVERED, State.FAILED)
    assert email.outcomes[2] == Outcome(2, State.FAILED, 550, "5.1.1", "no such user")
    assert email.last_event == LastEvent.BOUNCED
    assert not email.complained


def test_what_is_not_there_is_not_found(history, told):
    """An unknown id is no error, even when it is no id at all."""
    for unknown in ("019e", "", "a\x00b", "x" * 10_000):
        assert history.find(unknown) is None
        assert history.locate(unknown) is None
        assert history.events_of(unknown) == []


def test_a_message_before_its_first_attempt_has_no_outcome(history, database):
    """A recipient that was not tried yet has a state and no outcome."""
    log = EventLog()
    message = make_message(1)
    log.append(events.accepted(message))
    record_all(database, log)
    email = history.find(message.id)
    assert (email.states, email.outcomes, email.content) == ((State.QUEUED,), (None,), None)


def test_pages_run_from_the_newest_to_the_oldest(history, database):
    """Going by `after` and by `before` shows each email once, newest first, in both directions."""
    log = EventLog()
    messages = [make_message(number) for number in range(7)]
    for message in messages:
        log.append(events.accepted(message))
    record_all(database, log)
    ids = [message.id for message in reversed(messages)]

    def shown(**place):
        return [email.message.id for email in history.page(limit=3, **place)]

    assert shown() == ids[:3]
    assert shown(after=history.locate(ids[2])) == ids[3:6]
    assert shown(after=history.locate(ids[5])) == ids[6:]
    assert shown(before=history.locate(ids[6])) == ids[3:6]
    assert shown(before=history.locate(ids[1])) == ids[:1]
    assert history.page(limit=1)[0].message == messages[-1]


def test_emails_of_one_moment_are_told_apart(history, database):
    """Emails of the same millisecond are ordered by id, so that no page skips or repeats one."""
    log = EventLog()
    for number in range(5):
        log.append(events.accepted(make_message(number)).replace(b'"created_at":', b'"created_at":1e3,"was":'))
    record_all(database, log)
    first = history.page(limit=2)
    rest = history.page(limit=9, after=history.locate(first[-1].message.id))
    assert [email.message.id[-1] for email in [*first, *rest]] == list("43210")


def test_the_timeline_tells_each_attempt(history, told):
    """An email's events come in order, attempts with their steps, peer and TLS."""
    timeline = history.events_of(told[1].id)
    assert [event.kind for event in timeline] == ["accepted", "attempted", "attempted", "attempted"]
    assert timeline[1].body["peer"] == "mx.a.example[192.0.2.1]:25"
    assert timeline[1].body["steps"] == {"connect": 1.5, "dot": 20.25}
    assert timeline[1].body["tls"].startswith("TLSv1.3")
    assert timeline[2].body["outcomes"][0]["text"] == "later"
    assert timeline[0].at == told[1].created_at


def test_missing_tables_are_unavailable_history(history, database, told):
    """While the tables are gone the history is unavailable, which is temporary."""
    schema.drop(database.engine)
    with pytest.raises(HistoryUnavailable) as raised:
        history.find(told[0].id)
    assert raised.value.retry_after > START - START


def test_a_complaint_shows(history, database):
    """A complained email says so."""
    log = EventLog()
    message = tell_story(log, 1)
    log.append(events.complained(message.id, (0,), at=START))
    record_all(database, log)
    assert history.find(message.id).last_event == LastEvent.COMPLAINED
