"""What the recorder and the queries do while a real PostgreSQL stops, hangs or is locked."""

import threading
import time
from datetime import timedelta

import pytest
from pydantic import SecretStr

from history import schema
from history.engine import Database
from history.errors import HistoryUnavailable
from history.queries import History
from history.recorder import Recorder
from history.recording import Recording
from history.report import RecorderState, Report
from runtime.settings import Settings
from tests.fixtures.event_log import START, EventLog, tell_story
from tests.fixtures.history import rows_of
from tests.fixtures.postgres import PostgresServer


class Silent:
    """Progress that nobody reads."""

    def publish(self, checkpoint, state, error):
        """Take it."""


class RunningRecorder:
    """A recorder's loop in a thread, with its database and a log that grows."""

    def __init__(self, settings):
        self.log = EventLog()
        self.tries = []
        self.database = Database.open(
            settings, "recorder", gate=self._count, writer=True, limit=timedelta(milliseconds=1500)
        )
        self.report = Report(Silent())
        self._stop = threading.Event()
        self._recorder = Recorder(self.database, self.log, batch=50, now=lambda: START)
        self._loop = Recording(
            self._recorder,
            wait=lambda after, seconds: self._stop.wait(0.02),
            newest=self.log.newest,
            report=self.report,
            stop=self._stop,
        )
        self._thread = threading.Thread(target=self._loop.run)

    def _count(self, patience):
        self.tries.append(time.monotonic())

    def tell(self, first, last):
        for number in range(first, last):
            tell_story(self.log, number)

    def wait_until(self, state, *, seconds=15):
        """Wait until it says `state`; `ok` only when it has recorded everything."""
        deadline = time.monotonic() + seconds
        while self.report.state is not state or (
            state is RecorderState.OK and self._recorder.checkpoint != self.log.newest()
        ):
            assert time.monotonic() < deadline, self.report.state
            time.sleep(0.01)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._stop.set()
        self._thread.join()
        self.database.close()


@pytest.fixture(scope="module")
def server():
    with PostgresServer() as server:
        yield server


@pytest.fixture
def settings_here(server, tmp_path):
    settings = Settings(database_url=SecretStr(server.url()), data_dir=tmp_path)
    yield settings
    database = Database.open(settings, "test")
    schema.drop(database.engine)
    database.close()


def test_a_stopped_database_loses_nothing(server, settings_here):
    """While the server is stopped the recorder tries at most twice a second; afterwards every event is there."""
    with RunningRecorder(settings_here) as recorder:
        recorder.tell(0, 20)
        recorder.wait_until(RecorderState.OK)
        server.stop()
        recorder.tell(20, 40)
        recorder.wait_until(RecorderState.WAITING)
        stopped_at = time.monotonic()
        while len([at for at in recorder.tries if at > stopped_at]) < 3:
            time.sleep(0.05)
        assert time.monotonic() - stopped_at > 0.9
        server.start()
        recorder.wait_until(RecorderState.OK)
        rows = rows_of(recorder.database)
    assert len(rows["emails"]) == 40
    assert len(rows["events"]) == 160


def test_a_hanging_database_keeps_nobody_waiting(server, settings_here):
    """While the server hangs each question is refused in about a second, no thread stays stuck, and all go on later."""
    with RunningRecorder(settings_here) as recorder:
        recorder.tell(0, 5)
        recorder.wait_until(RecorderState.OK)
        history = History.open(settings_here)
        assert len(history.page(limit=9)) == 5
        server.pause()
        try:
            for _ in range(6):
                started = time.monotonic()
                with pytest.raises(HistoryUnavailable):
                    history.page(limit=9)
                assert time.monotonic() - started < 5  # of a second, on a machine that may be starved
            recorder.tell(5, 10)
            recorder.wait_until(RecorderState.WAITING)
        finally:
            server.resume()
        recorder.wait_until(RecorderState.OK)
        deadline = time.monotonic() + 10
        while True:
            try:
                assert len(history.page(limit=19)) == 10
                break
            except HistoryUnavailable:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        history.close()


def test_a_locked_table_holds_nobody_for_long(server, settings_here):
    """While somebody holds a lock on our tables both the recorder and readers give up in time, and go on afterwards."""
    with RunningRecorder(settings_here) as recorder:
        recorder.tell(0, 5)
        recorder.wait_until(RecorderState.OK)
        history = History.open(settings_here)
        with server.connect() as rogue, rogue.transaction():
            rogue.execute("LOCK TABLE emails")
            recorder.tell(5, 10)
            with pytest.raises(HistoryUnavailable):
                history.page(limit=9)
            recorder.wait_until(RecorderState.WAITING)
        recorder.wait_until(RecorderState.OK)
        history.close()


def test_a_restart_between_two_questions_is_not_noticed(server, settings_here):
    """A pooled connection that a restart has cut is replaced without a word."""
    with RunningRecorder(settings_here) as recorder:
        recorder.tell(0, 3)
        recorder.wait_until(RecorderState.OK)
        history = History.open(settings_here)
        assert len(history.page(limit=9)) == 3
        server.stop()
        server.start()
        assert len(history.page(limit=9)) == 3
        history.close()
