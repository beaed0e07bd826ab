"""What the mailbox keeps: one SQLite file, written in groups, each group on disk before any 250 of it.

Written by the event loop itself: all that came in one turn is one commit. To hand it to a thread and back would cost a
250 more than the commit does, and a sender that dies meanwhile sends its mail a second time.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from nightmail.mailbox.headers import glance
from runtime.clock import now, to_ms
from runtime.logs import get

log = get(__name__)

_TABLE = """
create table if not exists messages (
    n integer primary key autoincrement,
    received_at integer not null,  -- milliseconds since the epoch
    reverse_path text not null,
    recipients text not null,  -- JSON list of forward-paths
    message_id text not null,
    subject text not null,
    content blob not null
);
create index if not exists messages_message_id on messages (message_id);
"""
_COLUMNS = "n, received_at, reverse_path, recipients, message_id, subject, length(content) as size"
_READ, _WRITE = 30.0, 1.0  # seconds to wait for a lock: the writer must not hold up its loop


@dataclass(frozen=True, slots=True)
class Letter:
    """One message as it came: envelope and content."""

    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Search:
    """Which messages to list: those numbered above `after`, upwards; without `after` the newest first."""

    limit: int = 100
    after: int | None = None
    to: str = ""
    subject: str = ""


Kept = Callable[[bool], None]  # is the letter on disk?


class Store:
    """The messages of one mailbox. Queries use connections of their own and may be asked in any thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._waiting: list[tuple[Letter, Kept]] = []
        self._db = self._connect(_WRITE)
        self._db.execute("pragma journal_mode=wal")
        self._db.executescript(_TABLE)

    def put(self, letter: Letter, kept: Kept) -> None:
        """Have the letter written in this turn of the event loop; `kept` hears whether it is on disk."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append((letter, kept))

    def close(self) -> None:
        """Write what waits and close the file."""
        self._write()
        self._db.close()

    def _connect(self, patience: float) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=patience, isolation_level=None)
        db.execute("pragma synchronous=full")
        db.row_factory = sqlite3.Row
        return db

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect(_READ)) as db:
            yield db

    def _write(self) -> None:
        group, self._waiting = self._waiting, []
        if group:
            ok = _insert(self._db, [letter for letter, _ in group])
            for _, kept in group:
                kept(ok)

    def find(self, search: Search) -> list[dict[str, Any]]:
        """Summaries of messages, less their content."""
        order = "n desc" if search.after is None else "n asc"
        query = f"""
            select {_COLUMNS} from messages
            where n > :after and instr(lower(recipients), :to) and instr(lower(subject), :subject)
            order by {order} limit :limit
        """  # noqa: S608 - only constants are put in
        words = {
            "after": search.after or 0,
            "to": search.to.lower(),
            "subject": search.subject.lower(),
            "limit": search.limit,
        }
        with self._open() as db:
            return [_summary(row) for row in db.execute(query, words)]

    def get(self, number: int) -> tuple[dict[str, Any], bytes] | None:
        """Summary and content of one message."""
        with self._open() as db:
            row = db.execute(f"select {_COLUMNS}, content from messages where n = ?", (number,)).fetchone()  # noqa: S608
            return (_summary(row), row["content"]) if row else None

    def count(self) -> dict[str, int]:
        """Messages, distinct Message-IDs and forward-paths: more messages than ids means duplicates or BCC splits."""
        query = """
            select count(*) as messages, count(distinct message_id) as unique_message_ids,
                   coalesce(sum(json_array_length(recipients)), 0) as recipients from messages
        """
        with self._open() as db:
            return dict(db.execute(query).fetchone())

    def clear(self) -> int:
        """Throw all messages away; returns how many there were. Numbers are not used again."""
        with self._open() as db:
            return db.execute("delete from messages").rowcount


def _insert(db: sqlite3.Connection, letters: Sequence[Letter]) -> bool:
    """One transaction for all; False when the disk or the file did not take it, or a letter could not be read."""
    try:
        rows = _rows(letters)
        db.execute("begin immediate")
        db.executemany(
            "insert into messages (received_at, reverse_path, recipients, message_id, subject, content)"
            " values (?, ?, ?, ?, ?, ?)",
            rows,
        )
        db.execute("commit")
    except Exception as failure:  # whatever it is, each session of the group waits for an answer
        log.error("mailbox.not_kept", letters=len(letters), exc_info=failure)
        with suppress(sqlite3.Error):
            db.rollback()
        return False
    return True


def _rows(letters: Sequence[Letter]) -> list[tuple[int, str, str, str, str, bytes]]:
    received_at = to_ms(now())
    rows = []
    for letter in letters:
        message_id, subject = glance(letter.content)
        recipients = orjson.dumps(letter.recipients).decode()
        rows.append((received_at, letter.reverse_path, recipients, message_id, subject, letter.content))
    return rows


def _summary(row: sqlite3.Row) -> dict[str, Any]:
    fields = dict(row)
    fields.pop("content", None)
    fields["recipients"] = orjson.loads(fields["recipients"])
    return fields
