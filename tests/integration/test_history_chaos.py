"""The chaos switch, with a real queue and both databases."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from history import schema
from history.chaos import Chaos, ChaosState, Mode
from history.engine import Database
from history.errors import ChaosForbidden, ChaosInvalid, HistoryUnavailable
from history.queries import History
from history.recorder import Recorder
from history.recording import Recording
from history.report import RecorderState, Report
from outbox.errors import Unavailable
from outbox.stream import Progress
from runtime.connections import redis_sync
from tests.fixtures.event_log import START, EventLog, tell_story
from tests.fixtures.history import record_all, rows_of
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import until_sync

TIMEOUT = timedelta(milliseconds=300)


@pytest.fixture
def stack(settings, database_url):
    """Settings of a stack with a queue and each kind of database in turn."""
    update = {"database_url": SecretStr(database_url), "database_acquire_timeout": TIMEOUT}
    return settings.model_copy(update=update)


@pytest.fixture
def chaos(stack):
    return Chaos.open(stack)


@pytest.fixture
def recorded(stack):
    """A database with a few stories in it, without chaos; and their log."""
    log = EventLog()
    for number in range(3):
        tell_story(log, number)
    database = Database.open(stack, "test", writer=True)
    schema.mend(database.engine, START)
    record_all(database, log)
    yield database, log
    database.close()


@pytest.fixture
def history(stack, recorded):
    history = History.open(stack, gate=Chaos.open(stack).gate)
    yield history
    history.close()


def answers(history) -> bool:
    try:
        return history.page(limit=1) != []
    except HistoryUnavailable:
        return False


@pytest.mark.parametrize("mode", ["down", "slow", "exhausted", "dropped"])
def test_each_mode_makes_the_history_unavailable(mode, chaos, history):
    """In each mode the history is unavailable, says so and does not hang, and is back when the mode ends."""
    assert answers(history)
    chaos.set(mode, 60)
    until_sync(lambda: not answers(history), seconds=10)
    with pytest.raises(HistoryUnavailable):
        history.page(limit=1)
    chaos.set("up")
    if mode != "dropped":
        until_sync(lambda: answers(history), seconds=10)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_mode_ends_by_itself(chaos, history):
    """A mode is over when its time is over, without anybody's doing."""
    state = chaos.set("down", 1)
    assert chaos.get() == state
    assert state.until is not None
    until_sync(lambda: chaos.get() == ChaosState(Mode.UP), seconds=2)
    until_sync(lambda: answers(history), seconds=2)


def test_dropped_tables_come_back_with_every_row(stack, chaos, recorded):
    """`dropped` really drops the tables; a running recorder makes them again, row for row, once the mode is over."""
    database, log = recorded
    before = rows_of(database)
    stop = threading.Event()
    redis = redis_sync(stack)
    gated = Database.open(stack, "recorder", gate=chaos.gate, writer=True)
    recorder = Recorder(gated, log, batch=5, now=lambda: START)
    report = Report(Progress(redis, stack))
    loop = Recording(
        recorder,
        wait=lambda after, seconds: stop.wait(0.02),
        newest=log.newest,
        report=report,
        stop=stop,
        may_mend=lambda: chaos.get().mode is not Mode.DROPPED,
    )
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        until_sync(lambda: report.state is RecorderState.OK, seconds=10)
        chaos.set("dropped", 60)
        assert sa.inspect(database.engine).get_table_names() == []
        until_sync(lambda: report.state is RecorderState.WAITING, seconds=10)
        assert sa.inspect(database.engine).get_table_names() == []
        chaos.set("up")
        until_sync(lambda: report.state is RecorderState.OK, seconds=10)
    finally:
        stop.set()
        thread.join()
        gated.close()
        redis.close()
    assert rows_of(database) == before


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_slow_database_does_not_stop_the_recorder(stack, chaos, recorded):
    """A recorder is more patient than a reader: it goes on while the database is slow."""
    _, log = recorded
    patient = Database.open(stack, "recorder", gate=chaos.gate, patience=2 * TIMEOUT, writer=True)
    tell_story(log, 9)
    chaos.set("slow", 60)
    assert Recorder(patient, log, batch=100).record_batch() > 0
    patient.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_switch_refuses_what_makes_no_sense(stack, chaos):
    """Unknown modes, times out of bounds, and stacks without the setting are refused."""
    for mode, seconds in (("sideways", 5), ("down", 0), ("down", 3601)):
        with pytest.raises(ChaosInvalid):
            chaos.set(mode, seconds)
    with pytest.raises(ChaosForbidden):
        Chaos.open(stack.model_copy(update={"chaos": False})).set("down", 5)
    assert chaos.get().to_dict() == {"mode": "up", "until": None}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_the_queue_the_database_is_as_it_is(stack):
    """When the queue is away nobody can switch, and every process takes the database for what it is."""
    away = stack.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}/0")})
    chaos = Chaos.open(away)
    assert chaos.get().mode is Mode.UP
    chaos.gate(1)
    with pytest.raises(Unavailable):
        chaos.set("down", 5)
