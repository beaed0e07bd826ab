"""What is left on a disk after a power cut, read before any process of ours runs: queue, journals, mailbox."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson
import redis

from outbox.journal import read_segment

_CHUNK = 2_000  # keys asked for at once


@dataclass(frozen=True, slots=True)
class Survivors:
    """Messages by what they are known by: an id or a subject, whatever the ledger has."""

    queue: frozenset[str]
    journal: frozenset[str]
    mailbox: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        """Whatever is anywhere."""
        return self.queue | self.journal | self.mailbox

    @classmethod
    def read(cls, data_dir: Path, client: redis.Redis, *, name: str) -> "Survivors":
        """`name` is the field of a message that the ledger knows: `id` or `subject`."""
        journals = sorted((data_dir / "journal").glob("*"))
        return cls(
            frozenset(_queued(client, name)),
            frozenset(found for journal in journals for found in _accepted(journal, name)),
            frozenset(_arrived(data_dir / "mailbox.sqlite", name)),
        )


def another_boot(data_dir: Path) -> None:
    """Let the machine of `data_dir` have another boot id than before, as after a real cut."""
    for file in (data_dir / "journal").glob("*/boot"):
        file.write_text("before the power cut")


def _queued(client: redis.Redis, name: str) -> Iterator[str]:
    """Messages the queue holds or has seen the end of, by their stored meta."""
    keys = list(client.scan_iter("{*}:m:*", count=_CHUNK))
    for start in range(0, len(keys), _CHUNK):
        pipe = client.pipeline(transaction=False)
        for key in keys[start : start + _CHUNK]:
            pipe.hget(key, "meta")
        yield from (str(orjson.loads(meta)[name]) for meta in pipe.execute() if meta)


def _accepted(journal: Path, name: str) -> Iterator[str]:
    for segment in sorted(journal.glob("*.log")):
        for _, header, _ in read_segment(segment):
            if header["kind"] == "accepted":
                yield from (str(message[name]) for message in header["messages"])


def _arrived(mailbox: Path, name: str) -> Iterator[str]:
    if name != "subject" or not mailbox.exists():
        return
    with closing(sqlite3.connect(mailbox)) as db:
        yield from (subject for (subject,) in db.execute("select subject from messages"))
