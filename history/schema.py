"""Makes, mends, measures and drops the schema. The recorder calls `mend` when a table is missing; nobody has to."""

import io
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from history.tables import checkpoint, metadata

_LOCK = 0x6E696768746D6C  # "nightml": the advisory lock under which only one process changes the schema
_MISSING_STATES = {"42P01", "42703", "3F000"}  # undefined table, undefined column, undefined schema
_MISSING_WORDS = ("no such table", "no such column", "has no column named")


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the newest version, in one transaction; nothing happens when it is there. Says nothing."""
    with engine.connect() as connection, connection.begin():
        _migrate(connection)


def mend(engine: sa.Engine, now: datetime) -> None:
    """`migrate`, then make each table that is missing, and start again at event 0 if one was.

    Replaying events onto the tables that stayed changes nothing in them, so they are left as they are.
    """
    with engine.connect() as connection, connection.begin():
        _migrate(connection)
        present = set(sa.inspect(connection).get_table_names())
        lost = [table for table in metadata.sorted_tables if table.name not in present]
        metadata.create_all(connection, tables=lost)
        if lost or connection.scalar(sa.select(checkpoint.c.number)) is None:
            _rewind(connection, now)


def rebuild(engine: sa.Engine, now: datetime) -> None:
    """Empty everything and start again at event 0: the recorder refills it."""
    with engine.connect() as connection, connection.begin():
        _drop(connection)
        _migrate(connection)
        _rewind(connection, now)


def drop(engine: sa.Engine) -> None:
    """Drop every table of ours, as a mistaken migration would."""
    with engine.connect() as connection, connection.begin():
        _drop(connection)


def is_missing(error: SQLAlchemyError) -> bool:
    """Whether the database answered that a table or column of ours is not there."""
    if not isinstance(error, DBAPIError):
        return False
    if getattr(error.orig, "sqlstate", None) in _MISSING_STATES:
        return True
    return any(words in str(error.orig) for words in _MISSING_WORDS)


def _migrate(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        # The timeouts of the process are meant for rows; a step may rightly take longer.
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _rewind(connection: sa.Connection, now: datetime) -> None:
    connection.execute(sa.delete(checkpoint))
    connection.execute(sa.insert(checkpoint).values(id=1, number=0, updated_at=now))


def _drop(connection: sa.Connection) -> None:
    for name in [*metadata.tables, "alembic_version"]:  # in the order in which everyone locks them
        connection.execute(sa.schema.DropTable(sa.Table(name, sa.MetaData()), if_exists=True))
