"""Many rows in one go: those with some keys, new ones, and changes of what is there. Both databases.

Keys go there as one JSON document, so that one plan fits every number of them. PostgreSQL takes new rows by COPY, and
changes as one document too (`json_to_recordset`). SQLite is in our process and takes rows one by one, from tuples that
we make ourselves: SQLAlchemy's way from a dict to a bound row costs more than SQLite does with it.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from history import copying
from history.moves import Row
from history.values import Values, quoted, to_json
from runtime.clock import to_ms

_DOCUMENT = "document"


def rows_of(
    db: sa.Connection,
    key: sa.Column[str],
    keys: Sequence[str],
    columns: Sequence[sa.Column[Any]],
    *,
    within: tuple[sa.Column[Any], Any, Any] | None = None,
) -> list[Row]:
    """These columns of the rows whose `key` is one of `keys`, and whose value lies `within` (a column, from, to)."""
    names = [str(column.name) for column in columns]
    selection = _selection(db.dialect.name, key, tuple(columns))
    if within:
        column, least, most = within
        selection = selection.where(column.between(least, most))
    found = db.execute(selection, {_DOCUMENT: to_json(keys)})
    return [dict(zip(names, row, strict=True)) for row in found]


def insert(db: sa.Connection, table: sa.Table, rows: Iterable[Row]) -> None:
    """Insert whole rows of which none is there yet."""
    if not rows:
        return
    names = tuple(str(column.name) for column in table.columns)
    if _on_postgresql(db):
        copying.insert(db, table, names, rows)
    else:
        _run_each(db, _insertion(table, names), rows)


def update(db: sa.Connection, table: sa.Table, rows: Sequence[Row], *, changing: Collection[str]) -> None:
    """Set the columns `changing` of the rows with these keys; rows that are not there are left aside."""
    if not rows:
        return
    keys = tuple(str(column.name) for column in table.primary_key)
    if not _on_postgresql(db):
        _run_each(db, _change(table, keys, tuple(changing)), rows)
        return
    new = _records(table, (*keys, *changing))
    found = sa.and_(*(table.c[key] == new.c[key] for key in keys))
    document = to_json([{name: row[name] for name in (*keys, *changing)} for row in rows])
    db.execute(sa.update(table).where(found).values({n: new.c[n] for n in changing}), {_DOCUMENT: document})


@lru_cache(maxsize=32)
def _selection(dialect: str, key: sa.Column[str], columns: tuple[sa.Column[Any], ...]) -> sa.Select[Any]:
    document = sa.bindparam(_DOCUMENT, type_=sa.Text)
    if dialect != "postgresql":
        return sa.select(*columns).where(key.in_(sa.select(sa.func.json_each(document).table_valued("value").c.value)))
    each = sa.select(sa.func.json_array_elements_text(sa.cast(document, postgresql.JSON)))
    # An array, not a join: the index is walked once for all of them.
    return sa.select(*columns).where(key == sa.any_(sa.func.array(each.scalar_subquery())))


def _on_postgresql(db: sa.Connection) -> bool:
    return db.dialect.name == "postgresql"


def _records(table: sa.Table, names: Sequence[str]) -> Any:
    """A row source: the objects of one JSON parameter, with the types of the table's columns."""
    document = sa.cast(sa.bindparam(_DOCUMENT, type_=sa.Text), postgresql.JSON)
    columns = [sa.column(name, table.c[name].type) for name in names]
    return sa.func.json_to_recordset(document).table_valued(*columns, name="new").render_derived(with_types=True)


_Statement = tuple[str, Values]  # of one row, and what makes its values


def _run_each(db: sa.Connection, statement: _Statement, rows: Iterable[Row]) -> None:
    """Run a statement of one row for all rows, on SQLite."""
    text, values = statement
    db.exec_driver_sql(text, [tuple(values.of(row)) for row in rows])


@lru_cache(maxsize=32)
def _insertion(table: sa.Table, names: tuple[str, ...]) -> _Statement:
    columns, places = ", ".join(map(quoted, names)), ", ".join("?" * len(names))
    text = f"INSERT INTO {table.name} ({columns}) VALUES ({places})"  # noqa: S608  (our own names)
    return text, Values(table, names, instant=to_ms)


@lru_cache(maxsize=32)
def _change(table: sa.Table, keys: tuple[str, ...], changing: tuple[str, ...]) -> _Statement:
    new = ", ".join(f"{quoted(name)} = ?" for name in changing)
    found = " AND ".join(f"{quoted(key)} = ?" for key in keys)
    text = f"UPDATE {table.name} SET {new} WHERE {found}"  # noqa: S608  (our own names)
    return text, Values(table, (*changing, *keys), instant=to_ms)
