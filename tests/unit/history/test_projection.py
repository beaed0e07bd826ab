import pytest

from history.projection import Changes, Known, Projection
from outbox import events
from outbox.events import Event
from outbox.message import Outcome
from outbox.states import LastEvent, State
from tests.fixtures.event_log import (
    CONTENT,
    START,
    EventLog,
    attempted,
    delivered,
    lease_event,
    make_message,
    tell_story,
)


def project(log: EventLog):
    projection = Projection(Known())
    for recorded in log.records:
        projection.apply(recorded.event, recorded.content)
    return projection.changes()


TWO_LANES = make_message(1, to=("ann@a.example", "bob@b.example", "cid@a.example"))
LATER = Outcome(0, State.DEFERRED, 451, "4.3.0", "later")

# What happens after `accepted`, the states it leads to, and the message's word for them.
STORIES = {
    "nothing yet": ([], ["queued"] * 3, LastEvent.QUEUED),
    "one lane delivered": ([delivered(TWO_LANES, at=START)], ["delivered", "queued", "delivered"], LastEvent.QUEUED),
    "deferred, then its lease is lost": (
        [attempted(TWO_LANES, [LATER], at=START), lease_event("released", TWO_LANES, at=START)],
        ["queued"] * 3,
        LastEvent.QUEUED,
    ),
    "a release leaves the ended alone": (
        [
            attempted(TWO_LANES, [Outcome(2, State.FAILED, 550, "5.1.1", "unknown")], at=START),
            lease_event("released", TWO_LANES, at=START),
        ],
        ["queued", "queued", "failed"],
        LastEvent.BOUNCED,
    ),
    "held": ([lease_event("held", TWO_LANES, at=START)], ["held", "queued", "held"], LastEvent.FAILED),
    "held and redriven": (
        [lease_event("held", TWO_LANES, at=START), lease_event("redriven", TWO_LANES, at=START)],
        ["queued"] * 3,
        LastEvent.QUEUED,
    ),
    "cancelled": ([events.cancelled(TWO_LANES.id, at=START)], ["cancelled"] * 3, LastEvent.CANCELED),
    "complained": (
        [
            delivered(TWO_LANES, at=START),
            delivered(TWO_LANES, at=START, delivery=1),
            events.complained(TWO_LANES.id, (0,), at=START),
        ],
        ["delivered"] * 3,
        LastEvent.COMPLAINED,
    ),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_events_lead_to_states(story):
    """Each kind of event moves the recipients that it speaks of, and no others."""
    happened, states, word = story
    log = EventLog()
    for raw in [events.accepted(TWO_LANES), *happened]:
        log.append(raw)
    changes = project(log)
    assert [row["state"] for row in changes.recipients] == states
    assert [row["last_event"] for row in changes.emails] == [word]
    assert len(changes.events) == 1 + len(happened)
    assert changes.unreadable == []


def test_a_rescheduled_message_shows_its_newest_time():
    """Of two moves of a scheduled message the newer one counts, in whatever order they are read."""
    first, second = START.replace(hour=14), START.replace(hour=15)
    log = EventLog()
    message = make_message(1, scheduled_at=START.replace(hour=13))
    log.append(events.accepted(message))
    log.append(events.rescheduled(message.id, first, at=START))
    log.append(events.rescheduled(message.id, second, at=START))
    log.records.append(log.records[1])
    assert project(log).emails[0]["scheduled_at"] == second


def test_policy_objects_show_their_newest_value():
    """A policy object shows its newest value, and none after it was removed."""
    log = EventLog()
    log.append(events.policy_changed("domain", "a.example", {"verified": True}, at=START))
    log.append(events.policy_changed("domain", "a.example", None, at=START))
    log.append(events.policy_changed("domain", "b.example", {"verified": False}, at=START))
    log.records.append(log.records[0])
    rows = {row["name"]: row["value"] for row in project(log).policy_objects}
    assert rows == {"a.example": None, "b.example": {"verified": False}}


def test_an_event_of_a_later_version_is_kept():
    """An event of a kind that is not known yet moves nothing and is kept whole."""
    log = EventLog()
    log.append(b'{"kind":"opened","at":1,"id":"x","by":"ann@a.example"}')
    changes = project(log)
    assert changes.events[0]["body"] == {"by": "ann@a.example"}
    assert changes.unreadable == []


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"kind":"accepted","at":1,"id":"x"}',
        b'{"kind":"accepted","at":1,"id":"x","message":{"id":"y"}}',
        b'{"kind":"attempted","at":1,"id":"019e0000-0000-7000-8000-000000000001","outcomes":[{"state":"melted"}]}',
        b'{"kind":"released","at":"soon","id":"x"}',
        b'{"kind":"policy_changed","at":1,"id":""}',
    ],
)
def test_an_unreadable_event_is_put_aside(raw):
    """An event that makes no sense stops nothing: it is kept whole and named."""
    log = EventLog()
    tell_story(log, 1)
    number = log.append(raw)
    tell_story(log, 2)
    changes = project(log)
    assert changes.unreadable == [number]
    assert [row["last_event"] for row in changes.emails] == [LastEvent.BOUNCED] * 2
    assert changes.events[number - 1]["body"] == log.records[number - 1].event.fields


def test_contents_travel_with_their_message():
    """The content that came with `accepted` is what is to be kept for the message."""
    log = EventLog()
    message = tell_story(log, 1)
    assert project(log).contents == {message.id: CONTENT}


def test_what_is_known_already_changes_nothing():
    """Events that the tables hold already lead to no row at all."""
    log = EventLog()
    message = tell_story(log, 1)
    known = Known(contents={message.id})
    for _ in range(2):
        projection = Projection(known)
        for recorded in log.records:
            projection.apply(Event(recorded.event.number, recorded.event.fields), recorded.content)
        changes = projection.changes()
        known.counts = known.counts or changes.counts
    assert changes == Changes()
