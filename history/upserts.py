"""Many rows in one statement, written so that writing them again changes nothing. Both databases.

PostgreSQL takes a batch as one JSON document (`json_to_recordset`): one round trip and one plan, however many rows, and
four times the speed of an array per column. SQLite is in our process and takes rows one by one.
"""

from collections.abc import Collection, Mapping, Sequence
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
    insert: postgresql.Insert | sqlite.Insert
    if _on_postgresql(db):
        names = list(rows[0])
        insert = postgresql.insert(table).from_select(names, sa.select(_records(table, names)))
    else:
        insert = sqlite.insert(table)
    new = {name: insert.excluded[name] for name in changing}
    keys = list(table.primary_key)
    statement = insert.on_conflict_do_update(index_elements=keys, set_=new) if new else insert.on_conflict_do_nothing()
    db.execute(statement, {_DOCUMENT: _document(rows)} if _on_postgresql(db) else _cleaned(rows))


def update(db: sa.Connection, table: sa.Table, rows: Sequence[Row], *, changing: Collection[str]) -> None:
    """Set the columns `changing` of the rows with these keys; rows that are not there are left aside."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    names = [*keys, *changing]
    if _on_postgresql(db):
        new = _records(table, names)
        found = sa.and_(*(table.c[key] == new.c[key] for key in keys))
        db.execute(sa.update(table).where(found).values({n: new.c[n] for n in changing}), {_DOCUMENT: _document(rows)})
    else:
        found = sa.and_(*(table.c[key] == sa.bindparam(f"_{key}", type_=table.c[key].type) for key in keys))
        values = {name: sa.bindparam(f"_{name}", type_=table.c[name].type) for name in changing}
        parameters = [{f"_{name}": row[name] for name in names} for row in _cleaned(rows)]
        db.execute(sa.update(table).where(found).values(values), parameters)


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
