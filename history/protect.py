"""Makes a PostgreSQL database a protected one: roles, ownership, guards and the mark. Can be run again.

Everything happens in one transaction, so that there is no moment at which guards that stood before are down.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from history import budget, guards, schema
from history.errors import HistoryError
from history.guards import Mark, Permit
from history.roles import GUARD, LOGINS, OWNER, OWNER_ATTRIBUTES, RECORDER, SCHEMA, Role, attributes
from history.tables import metadata

_GUARDS = Path(__file__).parent / "guards.sql"
_LEAST_VERSION = 140000  # the first with idle_session_timeout
# PostgreSQL 16 and later: the recorder keeps the places of reserved_connections when somebody without a limit has taken
# all others. Worth nothing until the server's configuration sets it.
_RESERVED = "pg_use_reserved_connections"
_TRIGGERS = ("nightmail_guard_start", "nightmail_guard_drop", "nightmail_guard_end")


class ProtectRefused(HistoryError):
    """This database, or this login, cannot be used for it; the words say why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator wants of the logins; `passwords` and `limits` by role name.

    A login without a password there gets one made up if it is new, or if `renew`; one without a limit keeps its own.
    """

    passwords: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    renew: bool = False
    roles: Sequence[Role] = LOGINS


def protect(
    engine: sa.Engine, mark: Mark, wish: Wish, *, now: datetime, permit: Permit | None = None
) -> dict[str, str]:
    """Protect the database; the passwords that were made up, to be shown once and kept by the operator.

    Raises ProtectRefused, ProductionRefused (a production database would get another mark, and the permit does not
    fit it), and SQLAlchemyError.
    """
    with engine.connect() as connection, connection.begin():
        schema.lock(connection)
        _require_power(connection)
        before = guards.mark_of(connection)
        if before is None:
            schema.complete(connection, now)
        elif before != mark:
            guards.require(before, permit)
        _take_down(connection)
        made = _make_logins(connection, wish)
        _hand_over(connection)
        _put_up(connection, mark)
    return made


def _require_power(connection: sa.Connection) -> None:
    if connection.dialect.name != "postgresql":
        raise ProtectRefused("only PostgreSQL can be protected; a SQLite file is protected by its folder's rights")
    if int(connection.scalar(sa.text("SHOW server_version_num")) or 0) < _LEAST_VERSION:
        raise ProtectRefused("PostgreSQL 14 or later is needed")
    if not connection.scalar(sa.text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")):
        raise ProtectRefused("a superuser is needed to make event triggers; see NIGHTMAIL_DATABASE_OPERATOR_URL")


def _take_down(connection: sa.Connection) -> None:
    """The event triggers, for this transaction only: its last part puts them up again."""
    for trigger in _TRIGGERS:
        connection.execute(sa.text(f"DROP EVENT TRIGGER IF EXISTS {trigger}"))


def _make_logins(connection: sa.Connection, wish: Wish) -> dict[str, str]:
    """Roles belong to the whole server: another database of it may have made them before."""
    found = connection.execute(sa.text("SELECT rolname, rolconnlimit FROM pg_roles")).all()
    present = {row.rolname: row.rolconnlimit for row in found}
    roles = [_limited(role, {**present, **wish.limits}) for role in wish.roles]
    _require_room(connection, roles)
    for name in [OWNER, *(role.name for role in roles)]:
        if name not in present:
            connection.execute(sa.text(f"CREATE ROLE {name}"))
    for statement in [OWNER_ATTRIBUTES, *(line for role in roles for line in attributes(role))]:
        connection.execute(sa.text(statement))
    if _RESERVED in present:
        connection.execute(sa.text(f"GRANT {_RESERVED} TO {RECORDER.name} WITH INHERIT TRUE"))
    wanting = [role.name for role in roles if wish.renew or role.name not in present]
    made = {name: secrets.token_urlsafe(24) for name in wanting if name not in wish.passwords}
    for name, password in {**wish.passwords, **made}.items():
        _set_password(connection, name, password)
    return made


def _limited(role: Role, limits: Mapping[str, int]) -> Role:
    """The role with the limit that it has or shall have; -1 is none, which is not kept."""
    limit = limits.get(role.name, -1)
    return replace(role, connections=limit) if limit >= 0 else role


def _require_room(connection: sa.Connection, roles: Sequence[Role]) -> None:
    """The limits keep a place for each role only if the server has room for all of them at once."""
    asked = sum(role.connections for role in roles)
    room = budget.room(connection)
    if asked > room:
        listed = " + ".join(f"{role.short} {role.connections}" for role in roles)
        raise ProtectRefused(f"the limits ({listed}) ask for {asked} connections, and the server has {room}")


def _set_password(connection: sa.Connection, name: str, password: str) -> None:
    """Only the verifier crosses the wire: a statement with the password may end in the server's log."""
    driver: Any = connection.connection.driver_connection
    verifier = driver.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    connection.exec_driver_sql(f"ALTER ROLE {name} PASSWORD '{verifier}'")


def _hand_over(connection: sa.Connection) -> None:
    """Give schema and tables to the owner, and take from everybody what nobody was given."""
    name = str(connection.scalar(sa.text("SELECT current_database()")))
    database = connection.dialect.identifier_preparer.quote_identifier(name)
    logins = ", ".join(role.name for role in LOGINS)
    present = sa.inspect(connection).get_table_names(SCHEMA)
    statements = [
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {database} TO {logins}",
        f"ALTER SCHEMA {SCHEMA} OWNER TO {OWNER}",
        f"REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {logins}",
        *(
            f"ALTER TABLE {SCHEMA}.{table} OWNER TO {OWNER}"
            for table in [*metadata.tables, schema.VERSION]
            if table in present
        ),
    ]
    for statement in statements:
        _execute(connection, statement)


def _put_up(connection: sa.Connection, mark: Mark) -> None:
    _execute(connection, _GUARDS.read_text())
    written = sa.text(
        f"INSERT INTO {GUARD}.identity (name, environment) VALUES (:name, :environment) "  # noqa: S608  (a constant)
        "ON CONFLICT (only_row) DO UPDATE SET name = excluded.name, environment = excluded.environment"
    )
    connection.execute(written, {"name": mark.name, "environment": mark.environment.value})
    # They stand now, and let even us only through a window; it closes with this transaction.
    guards.open_window(connection, Permit("protect", mark.name), minutes=1)
    guards.arm(connection)
    guards.close_window(connection)


def _execute(connection: sa.Connection, sql: str) -> None:
    """SQL without parameters; the driver would take a percent sign for the place of one."""
    connection.exec_driver_sql(sql.replace("%", "%%"))
