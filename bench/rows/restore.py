"""How long an old backup takes to fill itself, for both databases.

The events lie in archived segments, with contents of 4 KB; the queue holds their count alone. The backup has the first
tenth. Told are seconds to examine it (`nightmail database verify`) and to fill it, and whether all rows are equal.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from bench.figures import Figure, at_most, told
from bench.plan import Plan, Tell
from bench.rows.recorder import fill
from history import schema
from history.belonging import Belonging
from history.engine import Database
from history.installation import Installation
from history.recorder import Recorder
from history.survey import stand
from outbox.archive import Archive
from outbox.stream import EventSource
from runtime.connections import redis_sync
from runtime.settings import Settings
from tests.fixtures.event_log import EventLog
from tests.fixtures.history import rows_of
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.valkey import ValkeyServer

ROWS = {"restore": "an old backup fills itself: 90,000 events from the archive"}
(_ROW,) = ROWS

_EVENTS = 100_000
_SEGMENT = 5_000
_AT = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def stack(events: int) -> Iterator[tuple[Settings, PostgresServer]]:
    """A queue, an archive with that many events, and a server for databases."""
    log = EventLog()
    fill(log, events // 2)
    with tempfile.TemporaryDirectory() as name, PostgresServer(options={"fsync": "on"}) as postgres:
        folder = Path(name) / "valkey"
        folder.mkdir()
        with ValkeyServer(folder) as valkey:
            settings = Settings(data_dir=Path(name), redis_url=SecretStr(valkey.url(1)))
            for first in range(0, log.newest(), _SEGMENT):
                Archive.open(settings).write(log.records[first : first + _SEGMENT])
            redis = redis_sync(settings)
            redis.mset({"{nm}:seq": log.newest(), "{nm}:archived": log.newest()})
            redis.close()
            yield settings, postgres


class Filled:
    """One database and the recorder on it."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.database = Database.open(
            settings.model_copy(update={"database_url": SecretStr(url)}),
            "bench",
            writer=True,
            limit=timedelta(minutes=2),
        )
        redis = redis_sync(settings)
        self.source = EventSource(redis, settings)
        self.belonging = Belonging(self.source, Installation(redis, settings))
        self.recorder = Recorder(self.database, self.source, batch=1000, belonging=self.belonging, now=lambda: _AT)

    def fill(self, until: int | None = None) -> float:
        """Record up to there, or all; seconds."""
        began = time.perf_counter()
        while self.recorder.record_batch() and (until is None or self.recorder.checkpoint < until):
            pass
        return time.perf_counter() - began

    def examine(self) -> float:
        """Seconds that `nightmail database verify` takes."""
        began = time.perf_counter()
        problem = stand(self.database, self.source, self.belonging, tell=lambda _: None).problem
        if problem:
            raise SystemExit(problem)
        return time.perf_counter() - began


def measure(_: Plan, tell: Tell) -> list[Figure]:
    """One backup of each database."""
    with stack(_EVENTS) as (settings, postgres):
        return [figure for kind in ("SQLite", "PostgreSQL") for figure in _of_kind(kind, settings, postgres, tell)]


def _of_kind(kind: str, settings: Settings, postgres: PostgresServer, tell: Tell) -> list[Figure]:
    live_url, copy_url, copy = _places(kind, settings, postgres)
    live = Filled(live_url, settings)
    schema.mend(live.database.engine, _AT)
    live.fill(until=_EVENTS // 10)
    live.database.close()
    copy()
    live.fill()
    backup = Filled(copy_url, settings)
    examined, filled = backup.examine(), backup.fill()
    differ = float(rows_of(live.database) != rows_of(backup.database))
    live.database.close()
    backup.database.close()
    tell(f"{kind}: {_EVENTS - _EVENTS // 10:,} events behind, {(_EVENTS - _EVENTS // 10) / filled:,.0f}/s")
    return [
        at_most(_ROW, f"{kind}, tables that differ", 0, [differ], unit="", digits=0),
        at_most(_ROW, f"{kind}, filled in", 60, [filled], unit="s", digits=1),
        told(_ROW, f"{kind}, examined in", [examined], unit="s", digits=1),
    ]


def _places(kind: str, settings: Settings, postgres: PostgresServer) -> tuple[str, str, Callable[[], object]]:
    """URL of the live database, of its copy, and what makes the copy."""
    if kind == "SQLite":
        file, copy = settings.data_dir / "live.sqlite", settings.data_dir / "copy.sqlite"
        return f"sqlite:///{file}", f"sqlite:///{copy}", lambda: shutil.copyfile(file, copy)

    def template() -> None:
        with postgres.connect() as admin:
            admin.execute("CREATE DATABASE backup TEMPLATE live")

    with postgres.connect() as admin:
        admin.execute("CREATE DATABASE live")
    return postgres.url("live"), postgres.url("backup"), template
