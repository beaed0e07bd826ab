"""New rows into PostgreSQL by COPY, in its binary form: half of what an INSERT costs, on both sides.

The server checks no types in that form, so each value must be of the column's very own. The text of a `json` column is
text to it too, and a `timestamptz` the microseconds since its epoch, which the driver would be slower to find out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from history.moves import Row
from history.tables import Instant
from history.values import Values, quoted
from runtime.clock import REMEMBERED

_COPY = "copy"  # the execution option that carries what to copy to where the driver is called
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the rows of a table are copied."""

    statement: str
    types: list[str]  # in the driver's words
    values: Values


def allow(engine: sa.Engine) -> None:
    """Teach the engine to copy. It happens inside SQLAlchemy's execution, which knows what an error means."""

    def execute(cursor: Any, _statement: str, _parameters: Any, context: Any) -> bool:
        job: tuple[_Plan, Iterable[Row]] | None = context and context.execution_options.get(_COPY)
        if job is not None:
            _copy(cursor, *job)
        return job is not None

    event.listen(engine, "do_execute", execute)


def insert(db: sa.Connection, table: sa.Table, names: tuple[str, ...], rows: Iterable[Row]) -> None:
    """Insert the columns `names` of rows of which none is there yet."""
    plan = _plan(table, names)
    db.exec_driver_sql(plan.statement, execution_options={_COPY: (plan, rows)})


def _copy(cursor: Any, plan: _Plan, rows: Iterable[Row]) -> None:
    """The server takes in what it has while we make the next rows."""
    with cursor.copy(plan.statement) as copy:
        copy.set_types(plan.types)
        for row in rows:
            copy.write_row(plan.values.of(row))


@lru_cache(maxsize=32)
def _plan(table: sa.Table, names: tuple[str, ...]) -> _Plan:
    statement = f"COPY {table.name} ({', '.join(map(quoted, names))}) FROM STDIN (FORMAT binary)"
    return _Plan(statement, [_type(table.c[name].type) for name in names], Values(table, names, instant=_microseconds))


def _type(kind: Any) -> str:
    match kind:
        case Instant() | sa.BigInteger():
            return "int8"
        case sa.Integer():
            return "int4"
        case sa.Boolean():
            return "bool"
        case sa.LargeBinary():
            return "bytea"
    return "text"


@lru_cache(maxsize=REMEMBERED)
def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND
