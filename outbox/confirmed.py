"""Marks in a journal: which of its accepts the queue has, so that a later life of the process does not put them again.

An accept goes to both stores at once, so its record is written before the queue has answered. The mark follows: one
for all accepts of some milliseconds, off the way of the answer.
"""

import asyncio
from collections.abc import Iterator, Sequence

from outbox.journal import Journal
from outbox.records import Header
from runtime.logs import get

log = get(__name__)

GATHER = 0.005  # seconds: what a power cut may take of the marks (outbox/reinject.py then asks the archive)

Ids = tuple[str, ...]  # of one accept


class Confirmed:
    """One per journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._gathered: list[Ids] = []
        self._writing: asyncio.Task[None] | None = None

    def add(self, ids: Ids) -> None:
        """The queue has this accept."""
        self._gathered.append(ids)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())

    async def close(self) -> None:
        """Write what is gathered."""
        if self._writing is not None:
            await self._writing

    async def _write_all(self) -> None:
        while self._gathered:
            await asyncio.sleep(GATHER)
            gathered, self._gathered = self._gathered, []
            try:
                await self._journal.append(mark(gathered))
            except OSError as failure:  # these may be put again, which changes nothing while the queue knows them
                log.error("journal.marks_not_written", count=len(gathered), error=str(failure))
        self._writing = None


def mark(accepts: Sequence[Ids], *, repeat: bool = False) -> Header:
    """The record. `repeat`: of an idempotency key that was used before, so it was answered and is never sent."""
    return {"kind": "confirmed", "accepts": accepts, "repeat": repeat}


def ids_of(header: Header) -> Ids:
    """The messages of an accept's record."""
    return tuple(message["id"] for message in header["messages"])


def marked(header: Header) -> Iterator[Ids]:
    """The accepts that a mark names; before 0.2 it named one."""
    yield from map(tuple, header["accepts"] if "accepts" in header else [header["ids"]])
