"""Connections to the main database: small pools, short waits, and a gate where the chaos switch acts.

Everything in this package gets its connections from `Database.connect`, and from nowhere else.
"""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import orjson
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from history import copying
from history.watchdog import watch
from runtime.clock import ms_of
from runtime.settings import Settings

_CONNECT_SECONDS = 2  # libpq's least connect_timeout


class Gate(Protocol):
    """Stands before every hand-out of a connection; may wait up to `patience` seconds, or raise a SQLAlchemyError."""

    def __call__(self, patience: float) -> None:
        """Let the caller pass, late or not at all."""


def open_gate(patience: float) -> None:
    """The gate of a stack without chaos: lets everyone pass."""


class Database:
    """One process's way to the database. `limit` bounds how long one connection is held, statement by statement too."""

    def __init__(self, engine: sa.Engine, *, patience: timedelta, gate: Gate = open_gate) -> None:
        self.engine = engine
        self._patience = patience.total_seconds()
        self._gate = gate

    @classmethod
    def open(
        cls,
        settings: Settings,
        process: str,
        *,
        gate: Gate = open_gate,
        patience: timedelta | None = None,
        limit: timedelta = timedelta(seconds=2),
        writer: bool = False,
    ) -> "Database":
        """The database of `settings` for `process` (its application_name). Connects to nothing yet.

        `patience`: longest wait for a connection, `database_acquire_timeout` unless told. `writer`: its transactions
        take SQLite's write lock at their beginning, so that they never fail half way for want of it.
        """
        patience = patience or settings.database_acquire_timeout
        url, pool = _url(settings.database), _pool(settings, patience)
        if url.get_backend_name() == "sqlite":
            engine = _sqlite(url, pool, busy=patience, begin="BEGIN IMMEDIATE" if writer else "BEGIN")
        else:
            engine = _postgresql(url, pool, name=f"nightmail-{process}", limit=limit)
        return cls(engine, patience=patience, gate=gate)

    @contextlib.contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """A connection from the pool; what was not committed is rolled back. Raises SQLAlchemyError."""
        try:
            self._gate(self._patience)
        except SQLAlchemyError:
            self.engine.dispose()  # a database that is down has cut its connections: none is reused afterwards
            raise
        with self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


def _url(text: str) -> sa.URL:
    """The URL with our driver, whatever spelling of PostgreSQL the operator used."""
    url = sa.make_url(text)
    return url.set(drivername="postgresql+psycopg") if url.drivername in {"postgres", "postgresql"} else url


def _pool(settings: Settings, patience: timedelta) -> dict[str, Any]:
    return {
        "poolclass": sa.QueuePool,
        "pool_size": settings.database_pool,
        "max_overflow": 0,
        "pool_timeout": patience.total_seconds(),
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
    }


def _postgresql(url: sa.URL, pool: dict[str, Any], *, name: str, limit: timedelta) -> sa.Engine:
    """No pre-ping: callers repeat what failed on a stale connection, and a ping would hang with the server."""
    timeouts = {
        "statement_timeout": ms_of(limit),
        "lock_timeout": ms_of(min(limit, timedelta(seconds=1))),
        "idle_in_transaction_session_timeout": 2 * ms_of(limit),
    }
    engine = sa.create_engine(
        url,
        connect_args={
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": name,
            "options": " ".join(f"-c {setting}={value}" for setting, value in timeouts.items()),
        },
        pool_use_lifo=True,  # lets the surplus go idle
        pool_recycle=600,
        **pool,
    )
    # The server gives up a statement by itself at `limit`; the watchdog is for the server that cannot.
    watch(engine, limit.total_seconds() + 1)
    copying.allow(engine)
    return engine


def _sqlite(url: sa.URL, pool: dict[str, Any], *, busy: timedelta, begin: str) -> sa.Engine:
    """Synchronous NORMAL may lose the last commits in a power cut, and their checkpoint with them: this is a view."""
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, **pool)

    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin late, and commit before DDL
        connection.execute(f"PRAGMA busy_timeout = {ms_of(busy)}")  # first, since the next one takes a lock
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):  # it stays set; setting it takes a lock
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine
