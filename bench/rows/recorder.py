"""How fast a recorder catches up, into both databases.

Each mail is two events (accepted with 4 KB of content, attempted), read from memory, so that only the database counts.
PostgreSQL runs with its own defaults (fsync on).
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from bench.figures import Figure, at_least, told
from bench.plan import Plan, Tell
from history import schema
from history.engine import Database
from history.recorder import Recorder
from outbox import events
from outbox.message import Message, Outcome, Recipient
from outbox.states import State
from runtime.garbage import collect_seldom
from runtime.settings import Settings
from tests.fixtures.event_log import EventLog, attempted
from tests.fixtures.postgres import PostgresServer

ROWS = {"recorder": "events/s of a recorder that catches up, PostgreSQL and SQLite"}
(_ROW,) = ROWS

_MAILS = 20_000


def measure(plan: Plan, tell: Tell) -> list[Figure]:
    """Each database is new for each round."""
    log = EventLog()
    fill(log, _MAILS)
    collect_seldom()  # as the recorder's process does
    rates: dict[str, list[float]] = {}
    for number in range(plan.rounds):
        with servers() as urls:
            for name, url in urls.items():
                rates.setdefault(name, []).append(catch_up(url, log))
        tell(f"round {number + 1}: " + ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items()))
    return [
        at_least(_ROW, "into PostgreSQL", 10_000, rates["PostgreSQL"], unit="events/s", digits=0),
        told(_ROW, "into SQLite", rates["SQLite"], unit="events/s"),
    ]


def mail(number: int) -> Message:
    """One of many mails."""
    now = datetime.now(UTC)
    return Message(
        id=f"019e0000-0000-7000-8000-{number:012d}",
        created_at=now,
        via="http",
        key_id="key",
        reverse_path="news@sender.example",
        recipients=(Recipient(f"user{number}@domain{number % 50}.example", "to"),),
        sender="News <news@sender.example>",
        to=(f"user{number}@domain{number % 50}.example",),
        subject="The news of this week, as every week",
        message_id_header=f"<{number}@sender.example>",
        size=4096,
    )


def fill(log: EventLog, mails: int) -> None:
    """The events of `mails` mails, in groups of a hundred as a busy outbox interleaves them."""
    body = "".join(f"Line {n:3d} of a newsletter, of which most lines differ a little.\r\n" for n in range(64)).encode()
    for start in range(0, mails, 100):
        group = [mail(number) for number in range(start, min(start + 100, mails))]
        for message in group:
            log.append(events.accepted(message), b"Subject: news\r\n\r\n" + message.id.encode() + body)
        for message in group:
            outcome = Outcome(0, State.DELIVERED, 250, "2.0.0", "OK queued as 4Cx2")
            log.append(attempted(message, [outcome], at=message.created_at + timedelta(seconds=1)))


def catch_up(url: str, log: EventLog) -> float:
    """Events per second of a catch-up from nothing."""
    settings = Settings(database_url=SecretStr(url))
    database = Database.open(settings, "bench", limit=timedelta(seconds=10), writer=True)
    schema.mend(database.engine, datetime.now(UTC))
    recorder = Recorder(database, log, batch=settings.recorder_batch)
    started = time.perf_counter()
    while recorder.record_batch():
        pass
    took = time.perf_counter() - started
    database.close()
    return log.newest() / took


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """A URL for each kind of database."""
    with tempfile.TemporaryDirectory() as folder, PostgresServer(options={"fsync": "on"}) as postgres:
        yield {"SQLite": f"sqlite:///{folder}/history.sqlite", "PostgreSQL": postgres.url()}
