"""Numbers about mail, kept while it is recorded. On both databases."""

from datetime import timedelta

import orjson

from history.tally import COUNTED
from outbox import events
from outbox.message import Outcome
from outbox.states import State
from outbox.tracking import Tracked
from tests.fixtures.event_log import START, EventLog, attempted, delivered, lease_event, make_message, tell_story
from tests.fixtures.history import record_all

HOUR = timedelta(hours=1)
DOMAIN = "sender.example"


def amounts(counted):
    return {name: amount for name, amount in counted.amounts.items() if amount}


def test_each_thing_that_happens_is_counted_once(database, history):
    """Recipients are counted by what became of them, at the time at which it did; of two ends the first counts."""
    log = EventLog()
    message = tell_story(log, 1)
    log.append(attempted(message, [Outcome(2, State.FAILED, 552, "5.2.2", "full")], at=START))
    log.append(events.complained(message.id, (0,), at=START))
    log.append(lease_event("held", message, at=START).replace(b"}", b',"recipients":[0,1]}'))
    record_all(database, log, batch=3)
    (total,) = history.counts(START - HOUR, START + HOUR)
    assert amounts(total) == {
        "sent": 3, "delivered": 2, "bounced_permanent": 1, "delivery_delayed": 1, "complained": 1, "failed": 2,
    }  # fmt: skip
    assert (total.at, total.domain) == (None, None)
    assert sum(history.counts(START + HOUR, START + 2 * HOUR)[0].amounts.values()) == 0
    assert history.counts(START - HOUR, START + HOUR, domains=["other.example"])[0].amounts == dict.fromkeys(COUNTED, 0)


def test_what_a_rebuild_tells_again_is_counted_once(database, history):
    """After a rebuild of the queue events may come again under new numbers; what nobody told before is counted."""
    log = EventLog()
    message = tell_story(log, 1)
    log.append(events.complained(message.id, (0,), at=START))
    record_all(database, log)
    before, of_one = history.counts(START - HOUR, START + HOUR), history.counts_of([message.id])
    for recorded in list(log.records):
        log.append(orjson.dumps(recorded.event.fields | {"restored": True}))
    record_all(database, log, batch=3)
    assert history.counts(START - HOUR, START + HOUR) == before
    assert history.counts_of([message.id]) == of_one
    log.append(orjson.dumps(orjson.loads(events.complained(message.id, (1,), at=START + HOUR)) | {"restored": True}))
    record_all(database, log)
    assert history.counts(START + HOUR, START + 2 * HOUR)[0].amounts["complained"] == 1


def test_readers_are_counted_and_each_message_once_as_unique(database, history):
    """A click shows that the message was opened, too."""
    log = EventLog()
    for number, kinds in enumerate((("opened", "opened", "clicked", "clicked"), ("clicked", "opened")), 1):
        message = make_message(number)
        log.append(events.accepted(message))
        log.append(delivered(message, at=START))
        tracked = Tracked(message.id, message.created_at)
        for kind in kinds:
            if kind == "opened":
                log.append(events.opened(tracked, at=START, user_agent=""))
            else:
                log.append(events.clicked(tracked, "https://a.test/", at=START, ip_address="::1", user_agent=""))
    record_all(database, log, batch=3)
    (total,) = history.counts(START - HOUR, START + HOUR)
    assert amounts(total) == {
        "sent": 2, "delivered": 2, "opened": 3, "clicked": 3, "unique_opened": 2, "unique_clicked": 2,
    }  # fmt: skip


def test_numbers_are_broken_down(database, history):
    """By the quarter of an hour, and by the sender's domain."""
    log = EventLog()
    message = make_message(1, to=("ann@a.example", "bob@a.example"))
    log.append(events.accepted(message))
    log.append(delivered(message, at=START + HOUR))
    record_all(database, log)
    rows = history.counts(START - HOUR, START + 2 * HOUR, by_time=True, by_domain=True, most=10)
    found = {row.at: (row.domain, amounts(row)) for row in rows}
    assert found == {START: (DOMAIN, {"sent": 2}), START + HOUR: (DOMAIN, {"delivered": 2})}
    assert len(history.counts(START - HOUR, START + 2 * HOUR, by_time=True, most=1)) == 1


def test_scheduled_mail_is_sent_when_it_is_tried(database, history):
    """What waits for its time is counted with the first attempt, and what was cancelled never is."""
    log = EventLog()
    later = make_message(1, scheduled_at=START + HOUR)
    log.append(events.accepted(later))
    cancelled = make_message(2, scheduled_at=START + HOUR)
    log.append(events.accepted(cancelled))
    log.append(events.cancelled(cancelled.id, at=START))
    log.append(delivered(later, at=START + HOUR))
    record_all(database, log)
    rows = history.counts(START, START + 2 * HOUR, by_time=True, most=10)
    assert [(row.at, amounts(row)) for row in rows] == [(START + HOUR, {"sent": 1, "delivered": 1})]
    found = history.counts_of([later.id, cancelled.id])
    assert {row.email_id for row in found} == {later.id}


def test_numbers_of_named_emails(database, history):
    """They are read off what became of their recipients."""
    log = EventLog()
    message = tell_story(log, 1)
    tell_story(log, 2)
    log.append(events.complained(message.id, (0, 1), at=START))
    record_all(database, log)
    found = [(word, amount) for row in history.counts_of([message.id]) for word, amount in row.amounts.items()]
    assert sorted(found) == sorted(
        [("sent", 1)] * 3 + [("delivered", 1)] * 2 + [("bounced_permanent", 1), ("complained", 2)]
    )
