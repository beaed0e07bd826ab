"""A client that takes every connection it gets, and the sum of our own: February 2026."""

import contextlib
import time

import pytest
from psycopg.pq import ConnStatus, PGconn
from pydantic import SecretStr

from history import budget
from history.budget import BudgetExceeded
from history.errors import HistoryUnavailable
from history.protect import Wish
from history.queries import History
from history.roles import LOGINS
from runtime.settings import Settings
from tests.fixtures.guarded import PASSWORDS, READONLY_LIMIT, GuardedServer, RunningRecorder
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import until_sync

ROGUES = 330
COUNT = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'nightmail_readonly'"
END_RECORDER = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'nightmail_recorder'"


@pytest.fixture(scope="module")
def server():
    with GuardedServer() as server:
        yield server


@pytest.fixture
def live(server):
    database = server.new_database()
    database.protect()
    return database


class Rogue:
    """Opens connections as the readonly login, leaves half of them idle in a transaction, and closes none."""

    def __init__(self, live):
        self._url = live.url("nightmail_readonly").replace("+psycopg", "").encode()
        self.held = []
        self.words = set()
        self.refused = 0
        self.slowest_refusal = 0.0

    def open(self):
        began = time.monotonic()
        connection = PGconn.connect(self._url)  # of libpq itself: three times as fast
        if connection.status != ConnStatus.OK:
            self.refused += 1
            self.words.add(connection.get_error_message().rpartition("FATAL:  ")[2].strip())
            self.slowest_refusal = max(self.slowest_refusal, time.monotonic() - began)
            connection.finish()
            return
        self.held.append(connection)
        if len(self.held) % 2:
            connection.exec_(b"BEGIN")

    def leave(self):
        for connection in self.held:
            connection.finish()


@contextlib.contextmanager
def rogue_at(live):
    rogue = Rogue(live)
    try:
        yield rogue
    finally:
        rogue.leave()


def test_a_rogue_with_a_limit_hurts_nobody_else(live):
    """Of 330 connections a limited login gets its few, the others are refused at once, the recorder stays in step."""
    history = History.open(live.settings("nightmail_control"))
    with RunningRecorder(live.open("nightmail_recorder", writer=True)) as running, rogue_at(live) as rogue:
        running.tell(0, 2)
        running.wait_until_in_step()
        worst = most = 0
        with live.connect() as admin:
            for number in range(ROGUES):
                rogue.open()
                running.tell(number + 2, number + 3)
                worst = max(worst, running.lag())
                most = max(most, admin.execute(COUNT).fetchone()[0])
            running.wait_until_in_step()
            assert history.page(limit=1)
            # Those idle in a transaction are ended by the server, so others may get their place, but never more.
            until_sync(lambda: admin.execute(COUNT + " AND state ~ 'in transaction'").fetchone() == (0,), seconds=10)
        assert most == READONLY_LIMIT
        assert rogue.refused > ROGUES / 2
        assert rogue.words == {'too many connections for role "nightmail_readonly"'}
        assert rogue.slowest_refusal < 5
        assert worst < 5
    history.close()


def test_without_limits_everything_waits_and_nothing_hangs(live):
    """With every connection taken a question is refused in about a second, the recorder waits, and catches up later."""
    live.force("ALTER ROLE nightmail_readonly CONNECTION LIMIT -1", "ALTER ROLE nightmail_readonly RESET ALL")
    history = History.open(live.settings("nightmail_control"))
    with RunningRecorder(live.open("nightmail_recorder", writer=True)) as running, rogue_at(live) as rogue:
        running.tell(0, 3)
        running.wait_until_in_step()
        for _ in range(ROGUES):
            rogue.open()
        with live.connect() as admin:  # in a place kept for superusers

            def starve():
                admin.execute(END_RECORDER)
                rogue.open()
                return running.report.error.startswith("no connection left")

            until_sync(starve)
            running.tell(3, 50)
            for _ in range(3):
                began = time.monotonic()
                with pytest.raises(HistoryUnavailable):
                    history.page(limit=1)
                assert time.monotonic() - began < 5  # of a second, on a machine that may be starved
        assert len(rogue.held) > 50
        assert any("connection slots" in words for words in rogue.words)
        rogue.leave()
        running.wait_until_in_step(seconds=5)
        until_sync(lambda: answers(history), seconds=5)
    history.close()


def test_reserved_places_are_the_recorders():
    """Where the server reserves connections, the recorder gets in although a login without a limit took all others."""
    limits = {role.name: 4 for role in LOGINS}
    with GuardedServer(max_connections="24", reserved_connections="4") as small:
        live = small.new_database()
        live.protect(wish=Wish(passwords=PASSWORDS, limits=limits))
        live.force("ALTER ROLE nightmail_readonly CONNECTION LIMIT -1")
        with rogue_at(live) as rogue:
            until_sync(lambda: rogue.open() or rogue.refused > 5)
            live.connect("nightmail_recorder").close()


def answers(history):
    try:
        return len(history.page(limit=99)) == 50
    except HistoryUnavailable:
        return False


def test_pools_that_do_not_fit_stop_the_start(live):
    """A process whose kind may open more connections than its login has does not start, and says which numbers."""
    budget.require(live.settings("nightmail_recorder"), "recorder")
    budget.require(live.settings("nightmail_control", control_processes=4), "control")
    with pytest.raises(BudgetExceeded) as raised:
        budget.require(live.settings("nightmail_recorder", recorder_processes=3), "recorder")
    assert "NIGHTMAIL_DATABASE_POOL and NIGHTMAIL_RECORDER_PROCESSES" in str(raised.value)
    assert "12 database connections" in str(raised.value)
    assert "nightmail_recorder may hold 8" in str(raised.value)
    with pytest.raises(BudgetExceeded, match="the server has room for 57"):
        budget.require(live.settings(control_processes=14), "control")


def test_a_database_that_is_away_stops_no_start(live, tmp_path):
    """Nobody listening, a server that hangs, or a file: the process starts, within moments."""
    settings = Settings(database_url=SecretStr(f"postgresql://x@127.0.0.1:{free_port()}/x"), recorder_processes=999)
    budget.require(settings, "recorder")
    budget.require(Settings(data_dir=tmp_path, recorder_processes=999), "recorder")
    live.server.pause()
    try:
        began = time.monotonic()
        budget.require(live.settings("nightmail_recorder", recorder_processes=999), "recorder")
        assert time.monotonic() - began < 10
    finally:
        live.server.resume()
