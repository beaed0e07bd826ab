"""Reading the history: one email, a page of them, the timeline of one. For the control API; sync, for its threads.

Every call answers, or raises HistoryUnavailable, within about `database_acquire_timeout`, whatever the database does.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from history.counting import Count, counts, counts_of
from history.engine import Database, Gate, open_gate
from history.errors import HistoryUnavailable
from history.faults import words
from history.moves import Row, message_of, outcome_of
from history.search import Search, conditions
from history.tables import contents, emails, events, recipients
from outbox.states import Reaction, State
from outbox.view import MessageView
from runtime import logs
from runtime.breaker import Breaker
from runtime.compression import decompress
from runtime.settings import Settings

log = logs.get(__name__)

T = TypeVar("T")

StoredEmail = MessageView
"""An email as the history shows it: the same value as the outbox's, so that both can be shown alike."""

_RETRY_AFTER = timedelta(seconds=1)
_PAUSE = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an email stands in the list, which runs from the newest to the oldest."""

    created_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """Something that happened to an email; `body` are the event's other fields."""

    number: int
    kind: str
    at: datetime
    body: dict[str, Any]


class History:
    """Questions to the database. Holds a thread per connection, so that a question can be given up in time."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._deadline = settings.database_acquire_timeout.total_seconds()
        self._threads = ThreadPoolExecutor(settings.database_pool, thread_name_prefix="history")
        self._breaker = Breaker(_PAUSE)

    @classmethod
    def open(cls, settings: Settings, process: str = "control", *, gate: Gate = open_gate) -> "History":
        """The history of `settings`; `gate` is a Chaos's."""
        # A question that nobody waits for any more is not worth the server's work either.
        limit = settings.database_acquire_timeout
        return cls(Database.open(settings, process, gate=gate, limit=limit), settings)

    def close(self) -> None:
        """Give up the threads and connections."""
        self._threads.shutdown(cancel_futures=True)  # waits for the questions under way: seconds at most
        self._database.close()

    def find(self, email_id: str) -> StoredEmail | None:
        """An email with its content; None if the history does not know it (yet)."""
        return self._ask(lambda db: _find(db, email_id))

    def locate(self, email_id: str) -> Place | None:
        """The place of an email in the list; a cursor for `page`."""
        return self._ask(lambda db: _locate(db, email_id))

    def page(
        self, *, limit: int, before: Place | None = None, after: Place | None = None, search: Search | None = None
    ) -> list[StoredEmail]:
        """Up to `limit` emails without content, newest first; of those that `search` finds.

        The newest of all, those that follow `after` in the list (older), or those that precede `before` (newer), next
        to it. Ask for one more than is shown to learn whether there are more.
        """
        return self._ask(lambda db: _page(db, limit, before=before, after=after, search=search or Search()))

    def events_of(self, email_id: str) -> list[TimelineEvent]:
        """What happened to an email, in order."""
        return self._ask(lambda db: _events_of(db, email_id))

    def counts(
        self,
        since: datetime,
        until: datetime,
        *,
        domains: Collection[str] | None = None,
        by_time: bool = False,
        by_domain: bool = False,
        most: int = 1,
    ) -> list[Count]:
        """How many of what there were, of senders at all domains or at these; up to `most` rows of the breakdown."""
        return self._ask(
            lambda db: counts(db, since, until, domains=domains, by_time=by_time, by_domain=by_domain, most=most)
        )

    def counts_of(self, email_ids: Sequence[str]) -> list[Count]:
        """What became of these emails."""
        return self._ask(lambda db: counts_of(db, email_ids))

    def _ask(self, question: Callable[[sa.Connection], T]) -> T:
        """Answer in time or raise HistoryUnavailable; after a failure, only one question per half second is tried."""
        if not self._breaker.allow():
            raise HistoryUnavailable("the database is away", _RETRY_AFTER)
        future = self._threads.submit(self._answer, question)
        try:
            answer = future.result(self._deadline)
        except (SQLAlchemyError, TimeoutError) as error:
            future.cancel()
            self._breaker.failed()
            log.warning("history.unavailable", error=words(error))
            raise HistoryUnavailable("the database did not answer", _RETRY_AFTER) from None
        self._breaker.succeeded()
        return answer

    def _answer(self, question: Callable[[sa.Connection], T]) -> T:
        try:
            return self._answer_once(question)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            return self._answer_once(question)  # a pooled connection that a restart had cut; the pool is fresh now

    def _answer_once(self, question: Callable[[sa.Connection], T]) -> T:
        with self._database.connect() as db:
            return question(db)


def _find(db: sa.Connection, email_id: str) -> StoredEmail | None:
    email = db.execute(sa.select(emails).where(emails.c.id == _key(email_id))).mappings().one_or_none()
    if email is None:
        return None
    raw = db.scalar(sa.select(contents.c.raw).where(contents.c.email_id == email_id))
    return _stored(db, [dict(email)], content=decompress(raw) if raw is not None else None)[0]


def _locate(db: sa.Connection, email_id: str) -> Place | None:
    row = db.execute(sa.select(emails.c.created_at, emails.c.id).where(emails.c.id == _key(email_id))).one_or_none()
    return Place(row.created_at, row.id) if row else None


def _page(
    db: sa.Connection, limit: int, *, before: Place | None, after: Place | None, search: Search
) -> list[StoredEmail]:
    place = sa.tuple_(emails.c.created_at, emails.c.id)
    statement = sa.select(emails).where(*conditions(search, db.dialect.name)).limit(limit)
    if after is not None:
        statement = statement.where(place < _tuple(after))
    if before is not None:
        rising = statement.where(place > _tuple(before)).order_by(emails.c.created_at, emails.c.id)
        rows = [dict(row) for row in db.execute(rising).mappings()][::-1]
    else:
        falling = statement.order_by(emails.c.created_at.desc(), emails.c.id.desc())
        rows = [dict(row) for row in db.execute(falling).mappings()]
    return _stored(db, rows)


def _events_of(db: sa.Connection, email_id: str) -> list[TimelineEvent]:
    chosen = sa.select(events.c.number, events.c.kind, events.c.at, events.c.body)
    found = db.execute(chosen.where(events.c.email_id == _key(email_id)).order_by(events.c.number))
    return [TimelineEvent(row.number, row.kind, row.at, row.body) for row in found]


def _stored(db: sa.Connection, rows: Sequence[Row], *, content: bytes | None = None) -> list[StoredEmail]:
    """The emails of these rows, with their recipients."""
    of: defaultdict[str, list[Row]] = defaultdict(list)
    wanted = recipients.c.email_id.in_([row["id"] for row in rows])
    for recipient in _mappings(db.execute(sa.select(recipients).where(wanted).order_by(recipients.c.idx))):
        of[recipient["email_id"]].append(recipient)
    return [
        StoredEmail(
            message=message_of(row, of[row["id"]]),
            states=tuple(State(recipient["state"]) for recipient in of[row["id"]]),
            outcomes=tuple(outcome_of(recipient) for recipient in of[row["id"]]),
            complained=row["complained"],
            content=content,
            reaction=Reaction(row["reaction"]) if row["reaction"] else None,
        )
        for row in rows
    ]


def _mappings(result: sa.CursorResult[Any]) -> Iterable[Row]:
    return (dict(row) for row in result.mappings())


def _tuple(place: Place) -> sa.ColumnElement[Any]:
    return sa.tuple_(sa.literal(place.created_at, emails.c.created_at.type), sa.literal(place.id, emails.c.id.type))


def _key(email_id: str) -> str:
    """An id that PostgreSQL can be asked for: its text holds no NUL, and neither does an id of ours."""
    return email_id.replace("\x00", "")
