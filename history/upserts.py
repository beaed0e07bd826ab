"""Many rows in one statement, written so that writing them again changes nothing. Both databases.

PostgreSQL takes a batch as one JSON document (`json_to_recordset`): one round trip and one plan, however many rows, and
four times the speed of an array per column. SQLite is in our process and takes rows one by one, from tuples that we
make ourselves: SQLAlchemy's way from a dict to a bound row costs more than SQLite does with it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from history import tables
from history.moves import Row

_DOCUMENT = "document"
_NUL = b"\\u0000"


def insert_new(db: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert the rows whose key is not there yet."""
    upsert(db, table, rows, changing=())


def upsert(db: sa.Connection, table: sa.Table, rows: Sequence[Row], *, changing: Collection[str]) -> None:
    """Insert the rows, or set the columns `changing` of those that are there."""
    if not rows:
        return
    names = tuple(rows[0])
    if not _on_postgresql(db):
        _run_each(db, _compiled(db.dialect, _upsert_one, table, names, tuple(changing)), rows)
        return
    insert = postgresql.insert(table).from_select(names, sa.select(_records(table, names)))
    db.execute(_unless_there(insert, table, changing), {_DOCUMENT: _document(rows)})


def _unless_there(insert: Any, table: sa.Table, changing: Collection[str]) -> Any:
    new = {name: insert.excluded[name] for name in changing}
    keys = list(table.primary_key)
    return insert.on_conflict_do_update(index_elements=keys, set_=new) if new else insert.on_conflict_do_nothing()


def update(db: sa.Connection, table: sa.Table, rows: Sequence[Row], *, changing: Collection[str]) -> None:
    """Set the columns `changing` of the rows with these keys; rows that are not there are left aside."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    names = (*keys, *changing)
    if not _on_postgresql(db):
        _run_each(db, _compiled(db.dialect, _update_one, table, names, tuple(changing)), rows)
        return
    new = _records(table, names)
    found = sa.and_(*(table.c[key] == new.c[key] for key in keys))
    db.execute(sa.update(table).where(found).values({n: new.c[n] for n in changing}), {_DOCUMENT: _document(rows)})


_OneRow = Callable[[sa.Table, tuple[str, ...], tuple[str, ...]], Any]  # table, columns, those that change: a statement

# A statement's text, and for each place in it the column and what makes its value one that the driver takes.
_Compiled = tuple[str, list[tuple[str, Callable[[Any], Any] | None]]]


def _upsert_one(table: sa.Table, names: tuple[str, ...], changing: tuple[str, ...]) -> Any:
    return _unless_there(sqlite.insert(table).values({n: _slot(table, n) for n in names}), table, changing)


def _update_one(table: sa.Table, names: tuple[str, ...], changing: tuple[str, ...]) -> Any:
    found = sa.and_(*(table.c[name] == _slot(table, name) for name in names if name not in changing))
    return sa.update(table).where(found).values({name: _slot(table, name) for name in changing})


def _slot(table: sa.Table, name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(f"_{name}", type_=table.c[name].type)


def _run_each(db: sa.Connection, one: _Compiled, rows: Sequence[Row]) -> None:
    """Run a statement of one row for all rows, on SQLite."""
    text, slots = one
    values = [tuple([row[n] if to is None else to(row[n]) for n, to in slots]) for row in _cleaned(rows)]
    db.exec_driver_sql(text, values)


@lru_cache(maxsize=32)
def _compiled(
    dialect: sa.Dialect, make: _OneRow, table: sa.Table, names: tuple[str, ...], changing: tuple[str, ...]
) -> _Compiled:
    compiled = make(table, names, changing).compile(dialect=dialect)
    columns = [name.removeprefix("_") for name in compiled.positiontup]
    return str(compiled), [(n, table.c[n].type.dialect_impl(dialect).bind_processor(dialect)) for n in columns]


def insert_contents(db: sa.Connection, contents: Mapping[str, bytes]) -> None:
    """Insert the contents that are not there yet. Octets travel in binary (%b), which a JSON document cannot hold."""
    if not contents:
        return
    if _on_postgresql(db):
        source = "SELECT * FROM unnest(%(ids)b::text[], %(raws)b::bytea[])"
        statement = f"INSERT INTO contents (email_id, raw) {source} ON CONFLICT DO NOTHING"
        db.exec_driver_sql(statement, {"ids": list(contents), "raws": list(contents.values())})
    else:
        rows = [{"email_id": email_id, "raw": raw} for email_id, raw in contents.items()]
        db.execute(sqlite.insert(tables.contents).on_conflict_do_nothing(), rows)


def one_of(db: sa.Connection, column: sa.ColumnElement[str], words: Sequence[str]) -> sa.ColumnElement[bool]:
    """The condition that `column` is one of `words`; one parameter on PostgreSQL, whose plan then fits every length."""
    if not _on_postgresql(db):
        return column.in_(words)
    each = sa.func.json_array_elements_text(sa.cast(sa.literal(_document(words), sa.Text), postgresql.JSON))
    return column.in_(sa.select(each))


def _on_postgresql(db: sa.Connection) -> bool:
    return db.dialect.name == "postgresql"


def _records(table: sa.Table, names: Sequence[str]) -> Any:
    """A row source: the objects of one JSON parameter, with the types of the table's columns."""
    document = sa.cast(sa.bindparam(_DOCUMENT, type_=sa.Text), postgresql.JSON)
    columns = [sa.column(name, table.c[name].type) for name in names]
    return sa.func.json_to_recordset(document).table_valued(*columns, name="new").render_derived(with_types=True)


def _document(rows: Sequence[Any]) -> str:
    return orjson.dumps(_cleaned(rows)).decode()


def _cleaned(rows: Sequence[Any]) -> Sequence[Any]:
    """The rows without NULs; the search costs one fast pass, the replacing only where it is needed."""
    return [_clean(row) for row in rows] if _NUL in orjson.dumps(rows) else rows


def _clean(value: Any) -> Any:
    """PostgreSQL's text holds no NUL: one in a remote's reply must not stop the recorder for ever."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd") if "\x00" in value else value
        case dict():
            return {_clean(key): _clean(part) for key, part in value.items()}
        case list() | tuple():
            return [_clean(part) for part in value]
    return value
