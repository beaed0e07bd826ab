"""What a database says about itself, and the window in which its schema may change. For history/schema.py.

A database without the schema `nightmail_guard` is unprotected: everything here then lets everyone pass.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from history.errors import HistoryError
from history.roles import GUARD, OWNER

_MINUTES = 5  # of a window that is gone with its transaction anyway


class Environment(StrEnum):
    """What would be lost with the database."""

    PRODUCTION = "production"
    STAGING = "staging"
    DEVELOPMENT = "development"


@dataclass(frozen=True, slots=True)
class Mark:
    """The database's own word on what it is."""

    name: str
    environment: Environment


@dataclass(frozen=True, slots=True)
class Permit:
    """What production asks of whoever changes its schema: a ticket, and the name of the database that is meant."""

    ticket: str
    name: str


class GuardError(HistoryError, SQLAlchemyError):
    """A guard stopped it. Whoever waits for a database to come back may wait for this too; the words are ours."""


class ProductionRefused(GuardError):
    """The database is marked production, and no permit, or one for another database, was given."""


class MendForbidden(GuardError):
    """Tables are missing, and this login may not make them. A person must act: the words name the one command."""

    def __init__(self, mark: Mark | None) -> None:
        if mark is None:  # the mark is lost too: the database was made anew
            command = "protect --name NAME"
        elif mark.environment is Environment.PRODUCTION:
            command = "migrate --ticket TICKET --name NAME"
        else:
            command = "migrate"
        super().__init__(f"tables are missing, and only a person may make them: run `nightmail database {command}`")


def mark_of(connection: sa.Connection) -> Mark | None:
    """The mark; None where the database is not protected."""
    if connection.dialect.name != "postgresql":
        return None
    if connection.scalar(sa.text(f"SELECT to_regclass('{GUARD}.identity')")) is None:
        return None
    row = connection.execute(sa.text(f"SELECT name, environment FROM {GUARD}.identity")).one_or_none()  # noqa: S608  (a constant)
    return Mark(row.name, Environment(row.environment)) if row else None


def require(mark: Mark | None, permit: Permit | None) -> None:
    """Raise ProductionRefused unless the permit fits the mark. The guards in the database ask again."""
    if mark is None or mark.environment is not Environment.PRODUCTION:
        return
    if permit is None or not permit.ticket.strip():
        raise ProductionRefused("this database is marked production: it changes only with a ticket and its name")
    if permit.name != mark.name:
        raise ProductionRefused(f"this database is marked production, and its name is not {permit.name}")


@contextlib.contextmanager
def window(connection: sa.Connection, permit: Permit | None) -> Iterator[None]:
    """Let the body change the schema, as the owner; nothing to do in an unprotected database.

    The window is opened and closed in the caller's transaction, so no other session ever sees it open.
    Raises ProductionRefused, and SQLAlchemyError where this login may not open one.
    """
    mark = mark_of(connection)
    require(mark, permit)
    if mark is None:
        yield
        return
    open_window(connection, permit or Permit("", mark.name), minutes=_MINUTES)
    connection.execute(sa.text(f"SET LOCAL ROLE {OWNER}"))
    yield
    connection.execute(sa.text("RESET ROLE"))
    arm(connection)
    close_window(connection)


def open_window(connection: sa.Connection, permit: Permit, *, minutes: int) -> datetime:
    """Suspend the guards for this login and nightmail_migrate, once the caller commits; until when."""
    statement = sa.text(f"SELECT {GUARD}.open_window(:ticket, :name, :minutes)")
    found = connection.scalar(statement, {"ticket": permit.ticket, "name": permit.name, "minutes": minutes})
    until: datetime = found.astimezone(UTC)
    return until


def close_window(connection: sa.Connection) -> None:
    """Close the windows that this login opened."""
    connection.execute(sa.text(f"SELECT {GUARD}.close_window()"))


def arm(connection: sa.Connection) -> None:
    """Give each table its rights and triggers. In a window."""
    connection.execute(sa.text(f"SELECT {GUARD}.arm()"))


def refuse_drop_all(_metadata: sa.MetaData, connection: sa.Connection, **_rest: Any) -> None:
    """Stands before `metadata.drop_all()`, which no part of ours calls: a person's script must not take production."""
    if mark_of(connection) is not None:
        raise ProductionRefused("this database is protected: its tables are dropped by nobody's script")
