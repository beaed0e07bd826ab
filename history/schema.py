"""Makes, mends, measures and drops the schema. The recorder calls `mend` when a table is missing; nobody has to."""

import io
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from history.guards import MendForbidden, Permit, mark_of, window
from history.tables import checkpoint, email_counts, emails, metadata

VERSION = "alembic_version"  # alembic's table
_LOCK = 0x6E696768746D6C  # "nightml": the advisory lock under which only one process changes the schema
_MISSING_STATES = {"42P01", "42703", "3F000"}  # undefined table, undefined column, undefined schema
_NOT_ALLOWED = "42501"
_MISSING_WORDS = ("no such table", "no such column", "has no column named")


def migrate(engine: sa.Engine, permit: Permit | None = None) -> None:
    """Bring the schema to the newest version, in one transaction; nothing happens when it is there. Says nothing.

    A protected database is changed through a window, production only with a permit: raises ProductionRefused.
    """
    with engine.connect() as connection, connection.begin():
        lock(connection)
        with window(connection, permit):
            _upgrade(connection, permit)


def mend(engine: sa.Engine, now: datetime, permit: Permit | None = None) -> bool:
    """`migrate`, then make each table that is missing, and start again at event 0 if one was. Whether anything was.

    Replaying events onto the tables that stayed changes nothing in them, so they are left as they are, but for what
    `email_counts` is counted by.
    A column that is missing although the version is the newest is not made: nobody can tell what it held.
    Without a permit a protected database is not changed: raises MendForbidden if it would have to be.
    """
    with engine.connect() as connection, connection.begin():
        lock(connection)
        mark = mark_of(connection)
        if mark is None or permit is not None:
            with window(connection, permit):
                return _complete_as_allowed(connection, now, permit)
        if not is_complete(connection):
            raise MendForbidden(mark)
        return _rewind_if_lost(connection, now)


def rebuild(engine: sa.Engine, now: datetime, permit: Permit | None = None) -> None:
    """Empty everything and start again at event 0: the recorder refills it. Raises ProductionRefused."""
    with engine.connect() as connection, connection.begin():
        lock(connection)
        with window(connection, permit):
            _drop(connection)
            _upgrade(connection, permit)
            _rewind(connection, now)


def drop(engine: sa.Engine, permit: Permit | None = None) -> None:
    """Drop every table of ours, as a mistaken migration would. Raises ProductionRefused."""
    with engine.connect() as connection, connection.begin(), window(connection, permit):
        _drop(connection)


def lock(connection: sa.Connection) -> None:
    """Let only one process change the schema, until the transaction ends."""
    if connection.dialect.name == "postgresql":
        # The timeouts of the process are meant for rows; a step may rightly take longer.
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def complete(connection: sa.Connection, now: datetime, permit: Permit | None = None) -> bool:
    """Make what is missing, in the caller's transaction and under its lock; start at event 0 if a table was.

    Whether anything was missing.
    """
    was_complete = is_complete(connection)
    _upgrade(connection, permit)
    lost = _lost(connection)
    metadata.create_all(connection, tables=lost)
    if email_counts in lost:
        _forget_reactions(connection)
    if lost:
        _rewind(connection, now)
    return _rewind_if_lost(connection, now) or not was_complete


def _complete_as_allowed(connection: sa.Connection, now: datetime, permit: Permit | None) -> bool:
    """`complete`; MendForbidden where this login makes no tables: a new database in the place of a protected one."""
    try:
        return complete(connection, now, permit)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _NOT_ALLOWED:
            raise
        raise MendForbidden(mark=None) from error


def is_complete(connection: sa.Connection) -> bool:
    """Whether all tables are there, and their version is the newest."""
    present = sa.inspect(connection).get_table_names()
    if VERSION not in present or _lost(connection):
        return False
    version = connection.scalar(sa.select(sa.column("version_num")).select_from(sa.table(VERSION)))
    return version == ScriptDirectory.from_config(_config()).get_current_head()


def look(connection: sa.Connection) -> None:
    """Touch each table and column of ours, and no row. Raises what `is_missing` knows if one is not there."""
    for table in metadata.sorted_tables:
        connection.execute(sa.select(table).where(sa.false()))


def is_missing(error: SQLAlchemyError) -> bool:
    """Whether the database answered that a table or column of ours is not there."""
    if not isinstance(error, DBAPIError):
        return False
    if getattr(error.orig, "sqlstate", None) in _MISSING_STATES:
        return True
    return any(words in str(error.orig) for words in _MISSING_WORDS)


def _config() -> Config:
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _upgrade(connection: sa.Connection, permit: Permit | None) -> None:
    config = _config()
    config.attributes["connection"] = connection
    config.attributes["permit"] = permit
    command.upgrade(config, "head")


def _lost(connection: sa.Connection) -> list[sa.Table]:
    present = set(sa.inspect(connection).get_table_names())
    return [table for table in metadata.sorted_tables if table.name not in present]


def _forget_reactions(connection: sa.Connection) -> None:
    """A reader is counted as unique by the first reaction of the message: the replay tells it again, and the last."""
    # No message with a reaction shows `delivered`, and of the others there is an index.
    reacted = emails.c.last_event != "delivered", emails.c.reaction.is_not(None)
    connection.execute(sa.update(emails).where(*reacted).values(reaction=None))


def _rewind_if_lost(connection: sa.Connection, now: datetime) -> bool:
    """Start at event 0 if the checkpoint is lost; whether it was."""
    is_lost = connection.scalar(sa.select(checkpoint.c.number)) is None
    if is_lost:
        _rewind(connection, now)
    return is_lost


def _rewind(connection: sa.Connection, now: datetime) -> None:
    connection.execute(sa.delete(checkpoint))
    connection.execute(sa.insert(checkpoint).values(id=1, number=0, updated_at=now))


def _drop(connection: sa.Connection) -> None:
    for name in [*metadata.tables, VERSION]:  # in the order in which everyone locks them
        connection.execute(sa.schema.DropTable(sa.Table(name, sa.MetaData()), if_exists=True))
