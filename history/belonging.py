"""Whether the database and our events are one history: asked before anything is written to a database not yet known.

A checkpoint is a number. It says nothing about whose events were counted: a backup of another stack, a queue that lost
its memory and counts again, or a restore of some tables only would be filled on from the middle of another history.
"""

from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa

from history import tables
from history.errors import Foreign
from outbox.errors import Gap
from outbox.stream import Recorded


class Events(Protocol):
    """Our events: outbox.stream.EventSource."""

    def newest(self) -> int:
        """The number of the newest event."""

    def read(self, after: int, limit: int) -> list[Recorded]:
        """Consecutive events from number `after` + 1 on. Raises Gap."""


class Name(Protocol):
    """The name of our events: history.installation.Installation."""

    def in_queue(self) -> str:
        """The queue's word, empty when it has none."""

    def name(self) -> str:
        """What queue or archive say. Raises Foreign when they differ."""

    def settle(self, name: str) -> str:
        """Make it the name of both, or a new one if it is empty."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the database says of itself: its checkpoint, whose events, and kind and message of the last of them."""

    number: int
    installation: str | None
    last: tuple[str, str] | None


def read_stamp(db: sa.Connection) -> Stamp | None:
    """The stamp; None if the checkpoint's row is missing."""
    checkpoint, events = tables.checkpoint.c, tables.events.c
    row = db.execute(sa.select(checkpoint.number, checkpoint.installation)).one_or_none()
    if row is None:
        return None
    last = db.execute(sa.select(events.kind, events.email_id).where(events.number == row.number)).one_or_none()
    return Stamp(row.number, row.installation, (last.kind, last.email_id) if last else None)


class Belonging:
    """Remembers at which place it last found all well, so that a recorder in step asks the queue alone."""

    def __init__(self, events: Events, name: Name) -> None:
        self._events = events
        self._name = name
        self._known: tuple[int, str] | None = None

    def is_known(self, number: int) -> bool:
        """Whether the database stands where we left it, and the queue is the one it was then."""
        return self._known is not None and self._known == (number, self._name.in_queue())

    def moved(self, number: int) -> None:
        """We have just written so far ourselves."""
        if self._known is not None:
            self._known = (number, self._known[1])

    def doubt(self) -> None:
        """Something went wrong: what comes back may be another database."""
        self._known = None

    def require(self, stamp: Stamp) -> str:
        """The name that the database has, or has to get. Raises Foreign, with words on how it shows."""
        settled = self._name.settle(self.judge(stamp))
        self._known = (stamp.number, settled)
        return settled

    def judge(self, stamp: Stamp) -> str:
        """The name if anybody knows it, else empty; changes nothing. Raises Foreign."""
        newest = self._events.newest()
        if stamp.number > newest:
            raise Foreign(
                f"the database holds event {stamp.number}, and our newest is {newest}: "
                "a backup of another stack, or a queue that lost its memory"
            )
        ours = self._name.name()
        if stamp.installation and ours and stamp.installation != ours:
            raise Foreign(f"the database belongs to installation {stamp.installation}, and this is {ours}")
        self._compare_last(stamp)
        return ours or stamp.installation or ""

    def _compare_last(self, stamp: Stamp) -> None:
        """The event at the checkpoint must be ours too. Where it is out of reach, what follows it will show a gap."""
        if stamp.number == 0:
            return
        if stamp.last is None:
            raise Foreign(f"the database says that it holds event {stamp.number}, and does not: restored in part?")
        try:
            found = self._events.read(stamp.number - 1, 1)
        except Gap:
            return
        event = found[0].event if found else None
        if event is not None and event.number == stamp.number and stamp.last != _told(event.kind, event.fields):
            raise Foreign(f"event {stamp.number} of the database is another one than ours")


def _told(kind: str, fields: dict[str, object]) -> tuple[str, str]:
    return kind, str(fields.get("id") or "")


def name_it(db: sa.Connection, installation: str) -> None:
    """Write the name where there is none; the caller commits."""
    checkpoint = tables.checkpoint
    db.execute(sa.update(checkpoint).where(checkpoint.c.installation.is_(None)).values(installation=installation))
