"""Whether a database can be filled up: where it stands, and every event that it lacks, each of them really read.

A person asks before a restored database goes live, and `nightmail rebuild database` before it empties one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from history import schema
from history.belonging import Belonging, Events, Stamp, read_stamp
from history.engine import Database
from history.errors import Foreign
from outbox.errors import Gap

_READ = 5_000  # events at a time: an archived segment


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a database stands: its checkpoint, our newest event, and why it cannot be filled (empty: it can)."""

    checkpoint: int
    newest: int
    problem: str

    @property
    def behind(self) -> int:
        """Events that it lacks; 0 where it is another history."""
        return max(self.newest - self.checkpoint, 0)


def stand(database: Database, events: Events, belonging: Belonging, *, tell: Callable[[int], None]) -> Standing:
    """Examine a database; changes nothing. `tell` hears how far the reading is. Raises SQLAlchemyError."""
    stamp = _stamp(database) or Stamp(0, None, None)
    newest = events.newest()
    try:
        belonging.judge(stamp)
        require_all(events, after=stamp.number, newest=newest, tell=tell)
    except (Foreign, Gap) as problem:
        return Standing(stamp.number, newest, str(problem))
    return Standing(stamp.number, newest, "")


def require_all(events: Events, *, after: int, newest: int, tell: Callable[[int], None]) -> None:
    """Read every event behind `after` up to `newest`, content and all. Raises Gap, which names the first that lacks."""
    while after < newest:
        read = events.read(after, _READ)
        if not read:
            raise Gap(after + 1)
        for recorded in read:
            if not recorded.event.follows(after):
                raise Gap(after + 1, recorded.event.number)
            after = recorded.event.number
        tell(after)


def _stamp(database: Database) -> Stamp | None:
    """None where there are no tables, or none of today's: the recorder starts at the first event there."""
    try:
        with database.connect() as db:
            return read_stamp(db)
    except DBAPIError as error:
        if schema.is_missing(error):
            return None
        raise
