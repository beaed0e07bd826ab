"""What the mailbox keeps: one SQLite file, written by one thread in groups, each group on disk before any 250 of it."""

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from nightmail.mailbox.headers import glance
from runtime.clock import now, to_ms

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
_GROUP = 500  # messages in one commit, at most


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


Kept = Callable[[bool], None]  # called in the writer thread: is the letter on disk?


class Store:
    """The messages of one mailbox. `put` may be called from any thread; queries use connections of their own."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._waiting: queue.SimpleQueue[tuple[Letter, Kept] | None] = queue.SimpleQueue()
        with self._open() as db:
            db.execute("pragma journal_mode=wal")
            db.executescript(_TABLE)
        self._writer = threading.Thread(target=self._write, name="mailbox-writer", daemon=True)
        self._writer.start()

    def put(self, letter: Letter, kept: Kept) -> None:
        """Have the letter written; `kept` hears whether it is on disk."""
        self._waiting.put((letter, kept))

    def close(self) -> None:
        """Write what waits and end the writer."""
        self._waiting.put(None)
        self._writer.join()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30, isolation_level=None)) as db:
            db.execute("pragma synchronous=full")
            db.row_factory = sqlite3.Row
            yield db

    def _write(self) -> None:
        with self._open() as db:
            while (group := self._next_group()) is not None:
                ok = _insert(db, [letter for letter, _ in group])
                for _, kept in group:
                    kept(ok)

    def _next_group(self) -> list[tuple[Letter, Kept]] | None:
        """All that waits, once something does; None at the end."""
        group: list[tuple[Letter, Kept]] = []
        item = self._waiting.get()
        while item is not None:
            group.append(item)
            if len(group) >= _GROUP or self._waiting.empty():
                return group
            item = self._waiting.get()
        if group:
            self._waiting.put(None)
        return group or None

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
    """One transaction for all; False when the disk or the file did not take it."""
    received_at = to_ms(now())
    rows = []
    for letter in letters:
        message_id, subject = glance(letter.content)
        recipients = orjson.dumps(letter.recipients).decode()
        rows.append((received_at, letter.reverse_path, recipients, message_id, subject, letter.content))
    try:
        db.execute("begin immediate")
        db.executemany(
            "insert into messages (received_at, reverse_path, recipients, message_id, subject, content)"
            " values (?, ?, ?, ?, ?, ?)",
            rows,
        )
        db.execute("commit")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("rollback")
        time.sleep(0.1)  # a full disk must not spin
        return False
    return True


def _summary(row: sqlite3.Row) -> dict[str, Any]:
    fields = dict(row)
    fields.pop("content", None)
    fields["recipients"] = orjson.loads(fields["recipients"])
    return fields
