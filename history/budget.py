"""Whether all our processes together fit into the database: asked once, at the start of each that uses it.

February 2026: a service went from 60 connections to over 330, because nobody had added up pools times processes. Here
the sum is checked before the first mail. A database that is away is not asked: it must not stop a process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from history.engine import Database
from history.errors import HistoryError
from history.faults import words
from history.roles import CONTROL, RECORDER
from runtime import logs
from runtime.settings import Settings

log = logs.get(__name__)

_LIMIT = timedelta(seconds=1)
_LOGIN_OF = {"recorder": RECORDER.name, "control": CONTROL.name}


class BudgetExceeded(HistoryError):
    """The pools may open more connections than the role or the server grants; the words name numbers and settings."""


@dataclass(frozen=True, slots=True)
class Supply:
    """What the database grants: to this login (-1: no limit), and to all logins together."""

    login: str
    limit: int
    room: int


def demand(settings: Settings) -> dict[str, int]:
    """The most connections that the processes of each kind hold at once."""
    switch = 1 if settings.chaos else 0  # the chaos switch drops tables over a connection of its own
    return {
        "recorder": settings.database_pool * settings.recorder_processes,
        "control": (settings.database_pool + switch) * settings.control_processes,
    }


def room(connection: sa.Connection) -> int:
    """Connections that are not reserved for superusers and the like."""
    setting = "coalesce(current_setting('{}', true), '0')::int"  # the last one is younger than PostgreSQL 15
    names = ("max_connections", "superuser_reserved_connections", "reserved_connections")
    most, superusers, reserved = (connection.scalar(sa.text("SELECT " + setting.format(name))) or 0 for name in names)
    return int(most - superusers - reserved)


def require(settings: Settings, process: str) -> None:
    """Raise BudgetExceeded if the processes do not fit. Says nothing, within about two seconds, when it cannot ask."""
    database = Database.open(settings, f"{process}-budget", patience=_LIMIT, limit=_LIMIT)
    if database.engine.dialect.name != "postgresql":
        return
    try:
        with database.connect() as connection:
            login, limit = connection.execute(
                sa.text("SELECT rolname, rolconnlimit FROM pg_roles WHERE rolname = current_user")
            ).one()
            supply = Supply(login, limit, room(connection))
    except SQLAlchemyError as error:
        log.warning("budget.unchecked", error=words(error))
        return
    finally:
        database.close()
    missing = shortage(demand(settings), supply)
    if missing:
        raise BudgetExceeded(missing)


def shortage(wanted: Mapping[str, int], supply: Supply) -> str:
    """What does not fit, and what to change; empty when all does. A login of its own has to bear its own kind only."""
    own = [kind for kind, login in _LOGIN_OF.items() if login == supply.login]
    bears = {kind: wanted[kind] for kind in own or wanted}
    if 0 <= supply.limit < sum(bears.values()):
        raise_it = f"`nightmail database protect --limit {own[0]}=N`" if own else "ALTER ROLE ... CONNECTION LIMIT"
        return f"{_told(bears)}, but {supply.login} may hold {supply.limit} ({raise_it} changes that)"
    if sum(wanted.values()) > supply.room:
        return f"{_told(wanted)}, but the server has room for {supply.room} (max_connections less the reserved ones)"
    return ""


def _told(wanted: Mapping[str, int]) -> str:
    settings = " and ".join(["NIGHTMAIL_DATABASE_POOL", *(f"NIGHTMAIL_{kind.upper()}_PROCESSES" for kind in wanted)])
    parts = " + ".join(f"{kind} {number}" for kind, number in wanted.items())
    return f"by {settings} our processes may open {sum(wanted.values())} database connections ({parts})"
