"""However events reach the database, the rows are the same. On both databases."""

import orjson
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from history.batch import write_batch
from history.recorder import Recorder
from history.tables import checkpoint, metadata
from outbox import events
from outbox.message import Outcome
from outbox.states import State
from outbox.tracking import Tracked
from tests.fixtures.event_log import START, EventLog, attempted, delivered, lease_event, make_message
from tests.fixtures.history import record_all, rows_of

MESSAGES = [make_message(n, to=("ann@a.example", "bob@b.example", "cid@a.example")) for n in range(4)]

# One thing that happens: to which message, what, and to which of its deliveries.
happenings = st.tuples(
    st.sampled_from(range(4)),
    st.sampled_from(
        [
            *("deliver", "defer", "refuse", "release", "hold", "redrive", "cancel", "complain", "move", "policy"),
            *("react", "retell"),
        ]
    ),
    st.sampled_from([0, 1]),
)


def happen(log: EventLog, happening: tuple[int, str, int]) -> None:
    which, what, delivery = happening
    message = MESSAGES[which]
    member = message.deliveries()[delivery].recipients[-1]
    match what:
        case "deliver":
            log.append(delivered(message, at=START, delivery=delivery))
        case "defer":
            later = Outcome(member, State.DEFERRED, 451, "4.3.0", f"later {log.newest()}")
            log.append(attempted(message, [later], at=START, delivery=delivery))
        case "refuse":
            refused = Outcome(member, State.FAILED, 550, "5.1.1", "unknown\x00user")
            log.append(attempted(message, [refused], at=START, delivery=delivery))
        case "release" | "hold" | "redrive":
            kind = {"release": "released", "hold": "held", "redrive": "redriven"}[what]
            log.append(lease_event(kind, message, at=START, delivery=delivery))
        case "cancel":
            log.append(events.cancelled(message.id, at=START))
        case "complain":
            log.append(events.complained(message.id, (member,), at=START))
        case "react":
            tracked = Tracked(message.id, message.created_at)
            agent = {"at": START, "user_agent": "Mail/1"}
            opened = events.opened(tracked, **agent)
            log.append(events.clicked(tracked, "https://a.test/", ip_address="::1", **agent) if delivery else opened)
        case "move":
            log.append(events.rescheduled(message.id, START.replace(hour=13 + delivery), at=START))
        case "policy":
            value = {"n": log.newest()} if delivery else None
            log.append(events.policy_changed("domain", f"d{which}.example", value, at=START))


def write_log(happened) -> EventLog:
    log = EventLog()
    for message in MESSAGES:
        log.append(events.accepted(message), b"content of " + message.id.encode())
    for happening in happened:
        if happening[1] == "retell":  # as a rebuild of the queue does
            log.append(orjson.dumps(log.records[-1 - happening[0]].event.fields | {"restored": True}))
        else:
            happen(log, happening)
    return log


def rewind(database, number: int) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.update(checkpoint).values(number=number))


def empty(database) -> None:
    with database.engine.begin() as connection:
        for table in metadata.tables.values():
            connection.execute(sa.delete(table))
        connection.execute(sa.insert(checkpoint).values(id=1, number=0, updated_at=START))


quick = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@quick
@given(
    happened=st.lists(happenings, max_size=25),
    restarts=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 9), st.floats(0, 1)), max_size=6),
)
def test_any_course_of_recording_leads_to_the_same_rows(database, happened, restarts):
    """Batches of any size, and restarts from any older checkpoint in between, lead to the rows of one straight run."""
    log = write_log(happened)
    empty(database)
    record_all(database, log)
    straight = rows_of(database)

    empty(database)
    for steps, size, back_to in restarts:
        recorder = Recorder(database, log, batch=size, now=lambda: START)
        for _ in range(steps):
            recorder.record_batch()
        rewind(database, int(back_to * recorder.checkpoint))
    record_all(database, log, batch=7)
    assert rows_of(database) == straight


@quick
@given(happened=st.lists(happenings, max_size=15), data=st.data())
def test_a_shuffled_replay_changes_nothing(database, happened, data):
    """Events that are replayed in any order and number on top of complete rows leave them as they are."""
    log = write_log(happened)
    empty(database)
    record_all(database, log)
    complete = rows_of(database)
    replay = data.draw(st.lists(st.sampled_from(log.records), min_size=1, max_size=30))
    with database.connect() as db:
        write_batch(db, log.newest(), replay, now=START)
        db.execute(sa.update(checkpoint).values(number=log.newest()))
        db.commit()
    assert rows_of(database) == complete


def test_a_second_recorder_does_no_harm(database, open_database):
    """Of two recorders that read the same checkpoint only one writes; the other goes on from where that one is."""
    log = write_log([(0, "deliver", 0), (1, "defer", 1)])
    other = Recorder(open_database(writer=True), log, batch=3, now=lambda: START)

    class Late(EventLog):
        """A log that is so slow that the other recorder comes first."""

        def read(self, after, limit):
            batch = log.read(after, limit)
            if after == 0:
                other.record_batch()
            return batch

    assert Recorder(database, Late(), batch=5, now=lambda: START).record_batch() == 5
    assert rows_of(database)["checkpoint"][0][1] == 3
    assert len(rows_of(database)["events"]) == 3
    record_all(database, log)
    assert len(rows_of(database)["events"]) == log.newest()


def test_a_batch_is_written_whole_or_not_at_all(database):
    """A recorder that dies before its commit leaves no row and no checkpoint behind."""
    log = write_log([])
    before = rows_of(database)
    with database.connect() as db:
        assert write_batch(db, 0, log.records, now=START) == []
    assert rows_of(database) == before
