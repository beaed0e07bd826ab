"""Who holds the database's connections, and whether anybody uses them: an alarm before nobody gets one any more.

February 2026: a client went from 60 connections to over 330, most of them idle, and people learned of it when nothing
worked any more. The recorder looks every few seconds and says it in its log and its metrics.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa
from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError

from history.engine import Database
from history.roles import GUARD
from runtime import logs

log = logs.get(__name__)

_HELD = Gauge("nightmail_database_connections", "Connections that a login holds.", ["login"])
_MOST = Gauge("nightmail_database_connections_most", "Connections that a login may hold.", ["login"])
_ALARM = Gauge("nightmail_database_alarm", "1 while a login gives cause for this alarm.", ["alarm", "login"])

EVERY = 5.0  # seconds between two looks
_NEAR = 0.8  # of its limit
_MANY = 10  # connections of one login that are worth a thought
_USED = 0.5  # least share of them that should do something within two seconds
_LOOKS = 2  # in a row that show many unused ones, until it is no burst

# Unprotected, a login sees what its own sessions do, and of the others only that they are there.
_PLAIN = """
    SELECT usename AS login, CASE WHEN rolconnlimit < 0 THEN current_setting('max_connections')::int ELSE rolconnlimit
        END AS most, count(*) AS held, count(*) FILTER (
            WHERE state <> 'active' AND state_change < clock_timestamp() - interval '2 seconds'
        ) AS unused
    FROM pg_stat_activity JOIN pg_roles ON rolname = usename WHERE backend_type = 'client backend'
    GROUP BY usename, rolconnlimit
"""
_GUARDED = f"SELECT login, most, held, unused FROM {GUARD}.sessions()"  # noqa: S608  (a constant)
_HAS_FUNCTION = f"SELECT to_regprocedure('{GUARD}.sessions()') IS NOT NULL"


class Alarm(StrEnum):
    """What is wrong with a login's connections."""

    NEAR_LIMIT = "near_limit"  # the next ones may be refused
    UNUSED = "unused"  # many, and no traffic to match


@dataclass(frozen=True, slots=True)
class Sessions:
    """One login's. `most`: its limit, or the server's where it has none; `unused`: idle for more than two seconds."""

    login: str
    most: int
    held: int
    unused: int

    def alarms(self) -> set[Alarm]:
        """What this one look shows."""
        near = {Alarm.NEAR_LIMIT} if self.held > _NEAR * self.most else set()
        unused = self.held >= _MANY and self.unused > (1 - _USED) * self.held
        return near | ({Alarm.UNUSED} if unused else set())


def read_sessions(connection: sa.Connection) -> list[Sessions]:
    """By login; none on SQLite."""
    if connection.dialect.name != "postgresql":
        return []
    query = _GUARDED if connection.scalar(sa.text(_HAS_FUNCTION)) else _PLAIN
    return [Sessions(row.login, row.most, row.held, row.unused) for row in connection.execute(sa.text(query))]


class SessionWatch:
    """Looks until it is stopped. A database that does not answer is told of by the recorder itself."""

    def __init__(self, read: Callable[[], Iterable[Sessions]]) -> None:
        self._read = read
        self._looks: dict[tuple[Alarm, str], int] = {}  # in a row that showed it
        self.alarms: set[tuple[Alarm, str]] = set()

    @classmethod
    def of(cls, database: Database) -> "SessionWatch":
        """Of a real database."""

        def read() -> list[Sessions]:
            with database.connect() as connection:
                return read_sessions(connection)

        return cls(read)

    def run(self, stop: threading.Event) -> None:
        """Until then."""
        while not stop.wait(EVERY):
            try:
                self.look()
            except SQLAlchemyError:
                log.debug("database.sessions_unread")

    def look(self) -> None:
        """Look once, and tell what has changed."""
        found = list(self._read())
        for each in found:
            _HELD.labels(each.login).set(each.held)
            _MOST.labels(each.login).set(each.most)
        shown = {(alarm, each.login): each for each in found for alarm in each.alarms()}
        self._looks = {key: self._looks.get(key, 0) + 1 for key in shown}
        now = {key for key, looks in self._looks.items() if looks >= _looks_of(key[0])}
        for key in now - self.alarms:
            _tell(key, shown[key])
        for alarm, login in self.alarms - now:
            _ALARM.labels(alarm, login).set(0)
            log.info("database.alarm_over", alarm=alarm, login=login)
        self.alarms = now


def _looks_of(alarm: Alarm) -> int:
    return _LOOKS if alarm is Alarm.UNUSED else 1


def _tell(key: tuple[Alarm, str], found: Sessions) -> None:
    alarm, login = key
    _ALARM.labels(alarm, login).set(1)
    log.warning("database.alarm", alarm=alarm, login=login, held=found.held, most=found.most, unused=found.unused)
