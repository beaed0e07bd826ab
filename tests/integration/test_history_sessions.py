"""The recorder's eye on the database's connections: it gives an alarm before nobody gets one, and takes it back."""

import contextlib

import pytest
import sqlalchemy as sa

from history.sessions import Alarm, Sessions, SessionWatch, read_sessions
from tests.fixtures.guarded import READONLY_LIMIT, GuardedServer
from tests.fixtures.waiting import until_sync


def play(*looks):
    """The alarms after each look, where each look shows one login: limit, held, unused."""
    left = [[Sessions("guest", *look)] for look in looks]
    watch = SessionWatch(lambda: left.pop(0))
    shown = []
    for _ in looks:
        watch.look()
        shown.append({alarm for alarm, _ in watch.alarms})
    return shown


def test_near_its_limit_is_told_at_once_and_taken_back():
    """Above four fifths; exactly four fifths is no cause."""
    assert play((20, 16, 0), (20, 17, 0), (20, 3, 0)) == [set(), {Alarm.NEAR_LIMIT}, set()]


@pytest.mark.parametrize(
    ("look", "alarms"),
    [((100, 9, 9), set()), ((100, 20, 10), set()), ((100, 20, 11), {Alarm.UNUSED})],
    ids=["few", "half of them used", "most of them unused"],
)
def test_many_connections_without_traffic(look, alarms):
    """Told at the second look in a row: a burst that has just ended looks the same."""
    assert play(look, look) == [set(), alarms]
    assert play(look, (100, 1, 0), look) == [set()] * 3


@pytest.fixture(scope="module")
def live():
    with GuardedServer() as server:
        database = server.new_database()
        database.protect()
        yield database


def test_the_recorder_sees_what_others_leave_idle(live):
    """On a protected database its login learns of each login how many sessions it has, and how many sleep."""
    database = live.open("nightmail_recorder")
    with contextlib.ExitStack() as stack, database.connect() as connection:
        for _ in range(READONLY_LIMIT):
            stack.enter_context(live.connect("nightmail_readonly"))

        def guest():
            connection.rollback()
            return {found.login: found for found in read_sessions(connection)}["nightmail_readonly"]

        assert (guest().most, guest().held) == (READONLY_LIMIT, READONLY_LIMIT)
        until_sync(lambda: guest().unused == READONLY_LIMIT)
        assert guest().alarms() == {Alarm.NEAR_LIMIT}
    database.close()


def test_an_unprotected_database_is_counted_too(live):
    """Without the guards' function: who has no limit has the server's."""
    with live.server.connect() as admin:
        (most,) = admin.execute("SELECT current_setting('max_connections')::int").fetchone()
    engine = sa.create_engine(live.server.url("postgres"))
    with engine.connect() as connection:
        found = {each.login: each for each in read_sessions(connection)}
    engine.dispose()
    assert found["postgres"].most == most
    assert found["postgres"].held >= 1
