"""Proves each guard of a protected database by trying to break it. Every try is rolled back, or is a connection closed.

What is not tried is not proven: where a login is lacking for a try, that guard counts as missing.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import sqlalchemy as sa

from history import guards
from history.engine import Database
from history.roles import GUARD, LOGINS, OWNER, READONLY, SCHEMA, Role
from runtime.settings import Settings

_REFUSED = "refused (42501)"
_PATIENCE = 2.0  # seconds that the server may be late in ending a session
_LIMIT_OF = "SELECT rolconnlimit FROM pg_roles WHERE rolname = :name"
_TRIES = {
    "DROP TABLE": f"DROP TABLE {SCHEMA}.policy_objects",
    "TRUNCATE": f"TRUNCATE {SCHEMA}.policy_objects",
    "ALTER TABLE DROP COLUMN": f"ALTER TABLE {SCHEMA}.policy_objects DROP COLUMN value",
    "DELETE of all rows": f"DELETE FROM {SCHEMA}.policy_objects",  # noqa: S608  (a constant)
    "DROP SCHEMA": f"DROP SCHEMA {SCHEMA} CASCADE",
    "DROP of the guards": f"DROP SCHEMA {GUARD} CASCADE",
    "disabling a trigger": f"ALTER TABLE {SCHEMA}.policy_objects DISABLE TRIGGER ALL",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One guard: what it should do, and what it did."""

    guard: str
    expected: str
    found: str

    @property
    def held(self) -> bool:
        """Whether it did."""
        return self.found == self.expected


def prove(database: Database, settings: Settings, *, roles: Sequence[Role] = LOGINS) -> Iterator[Finding]:
    """Try every guard, as `database`'s login (a superuser, or most tries count as missing). Raises SQLAlchemyError."""
    with database.connect() as connection:
        connection.execute(sa.text("SET lock_timeout = '1s'"))
        connection.commit()
        mark = guards.mark_of(connection)
        yield Finding("mark", "present", "present" if mark else "missing: run `nightmail database protect`")
        if mark is None:
            return
        yield _no_window(connection)
        yield from _destructions(connection, roles)
        yield from (_attributes(connection, role) for role in roles)
        limit = connection.scalar(sa.text(_LIMIT_OF), {"name": READONLY.name}) or 0
    yield from _sessions(settings, replace(READONLY, connections=limit))


def _no_window(connection: sa.Connection) -> Finding:
    """An open window suspends the guards on purpose; whoever checks should know."""
    rows = connection.execute(
        sa.text(f"SELECT ticket, opened_by FROM {GUARD}.window WHERE closed_at IS NULL AND until > clock_timestamp()")  # noqa: S608  (a constant)
    ).all()
    connection.rollback()
    told = ", ".join(f"open by {row.opened_by} for {row.ticket or 'no ticket'}" for row in rows)
    return Finding("migration window", "closed", told or "closed")


def _destructions(connection: sa.Connection, roles: Sequence[Role]) -> Iterator[Finding]:
    us = str(connection.scalar(sa.text("SELECT session_user")))
    connection.rollback()
    for login in [us, OWNER, *(role.name for role in roles if role.name != us)]:
        for name, statement in _TRIES.items():
            yield Finding(f"{name} as {login}", _REFUSED, _attempt(connection, login, statement))


def _attempt(connection: sa.Connection, login: str, statement: str) -> str:
    """Try it in a transaction that is always rolled back."""
    try:
        quoted = connection.dialect.identifier_preparer.quote_identifier(login)
        connection.exec_driver_sql(f"SET LOCAL SESSION AUTHORIZATION {quoted}")
    except sa.exc.DBAPIError:
        connection.rollback()
        return "not tried: NIGHTMAIL_DATABASE_OPERATOR_URL is no superuser's"
    try:
        connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        return _REFUSED if state == "42501" else f"failed otherwise ({state})"
    else:
        return "ALLOWED"
    finally:
        connection.rollback()


def _attributes(connection: sa.Connection, role: Role) -> Finding:
    """Limit and timeouts as the catalog has them. Another limit than ours is the operator's choice; none is not."""
    row = connection.execute(
        sa.text("SELECT rolconnlimit, rolsuper, coalesce(rolconfig, '{}') FROM pg_roles WHERE rolname = :name"),
        {"name": role.name},
    ).one_or_none()
    connection.rollback()
    guard = f"limits of {role.name}"
    if row is None:
        return Finding(guard, "set", "no such role")
    limit, superuser, settings = row
    present = {setting.partition("=")[0] for setting in settings if not setting.endswith("=0")}
    missing = [name for name in role.timeouts if name not in present]
    missing += ["CONNECTION LIMIT"] if limit < 0 else []
    missing += ["NOSUPERUSER"] if superuser else []
    return Finding(guard, "set", f"missing: {', '.join(missing)}" if missing else "set")


def _sessions(settings: Settings, role: Role) -> Iterator[Finding]:
    """What only real logins show."""
    password = settings.database_password_readonly
    url = sa.make_url(settings.database).set(
        drivername="postgresql",  # libpq reads the rest as it is written
        username=role.name,
        password=password.get_secret_value() if password else None,
    )

    def open_one() -> psycopg.Connection:
        return psycopg.connect(url.render_as_string(hide_password=False), connect_timeout=3)

    guard = f"{role.connections + 1} connections as {role.name}"
    yield Finding(guard, "refused (53300)", _tried(lambda: _crowd(open_one, role)))
    yield Finding(f"idle in transaction as {role.name}", "ended", _tried(lambda: _idle(open_one, role)))


def _tried(attempt: Callable[[], str]) -> str:
    try:
        return attempt()
    except psycopg.OperationalError:
        return "not tried: no login (NIGHTMAIL_DATABASE_PASSWORD_READONLY)"


def _crowd(open_one: Callable[[], psycopg.Connection], role: Role) -> str:
    """Connections until one is refused; other clients of the role lose their turn for a moment."""
    with contextlib.ExitStack() as opened:
        opened.enter_context(open_one())  # a login that fails is no proof of the limit
        for _ in range(role.connections):
            try:
                opened.enter_context(open_one())
            except psycopg.OperationalError as error:
                return "refused (53300)" if _is_too_many(error) else f"failed otherwise ({error})"
    return "ALLOWED"


def _is_too_many(error: psycopg.OperationalError) -> bool:
    """A refused login carries no SQLSTATE in psycopg, only the server's words."""
    return error.sqlstate == "53300" or "too many connections" in str(error)


def _idle(open_one: Callable[[], psycopg.Connection], role: Role) -> str:
    """Begin a transaction and leave it alone."""
    with contextlib.closing(open_one()) as connection:
        connection.execute("SELECT 1")
        deadline = time.monotonic() + role.idle_in_transaction.total_seconds() + _PATIENCE
        while time.monotonic() < deadline:
            time.sleep(0.1)
            if _is_ended(connection):
                return "ended"
    return "STILL OPEN"


def _is_ended(connection: psycopg.Connection) -> bool:
    """Whether the server has said good-bye; asking it would end the idleness."""
    pgconn: Any = connection.pgconn
    try:
        pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return bool(pgconn.status != psycopg.pq.ConnStatus.OK)
