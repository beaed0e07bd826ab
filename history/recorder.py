"""The recorder: reads events in batches and keeps the database in step with them. A process of its own.

It remembers nothing: its place is the checkpoint in the database, so a database that was away, dropped or restored
from an old backup is filled from where it stands.
"""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from types import FrameType
from typing import Protocol

from prometheus_client import Counter
from sqlalchemy.exc import SQLAlchemyError

from history import schema
from history.batch import instant_of, read_checkpoint, write_batch
from history.belonging import Belonging, name_it, read_stamp
from history.chaos import Chaos, Mode
from history.engine import Database
from history.installation import Installation
from history.recording import Recording
from history.report import Report
from history.sessions import SessionWatch
from history.standing_back import StandingBack
from outbox.errors import Gap
from outbox.stream import EventSource, Progress, Recorded
from runtime import clock, logs
from runtime.connections import redis_sync
from runtime.garbage import collect_seldom
from runtime.metrics import serve_probe
from runtime.settings import Settings

log = logs.get(__name__)

_RECORDED = Counter("nightmail_recorder_events", "Events written to the main database.")
_UNREADABLE = Counter("nightmail_recorder_unreadable_events", "Events kept as they are, since they make no sense.")
_LOOK = 10.0  # seconds between two looks at the tables while there is nothing to record
_LIMIT = timedelta(seconds=10)  # for one statement, and for the whole of one transaction


class Source(Protocol):
    """Where events come from: outbox.stream.EventSource, or a log in memory."""

    def read(self, after: int, limit: int) -> Sequence[Recorded]:
        """Consecutive events from number `after` + 1 on; none if there are none yet. Raises Gap."""


class Recorder:
    """Moves events from `source` into `database`, one batch at a time. Two at once do no harm: one of them waits."""

    def __init__(
        self,
        database: Database,
        source: Source,
        *,
        batch: int,
        belonging: Belonging | None = None,
        now: Callable[[], datetime] = clock.now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._source = source
        self._belonging = belonging  # None: whatever database it is, it is ours
        self._most = batch
        self._size = batch
        self._now = now
        self._monotonic = monotonic
        self._look_at = float("-inf")
        self.checkpoint = 0  # as last seen; for reports only
        self.recorded_until: datetime | None = None  # the instant of the newest event that this process recorded

    def record_batch(self) -> int:
        """Record the events that follow the checkpoint; how many, 0 when there are none.

        Raises SQLAlchemyError when the database is ill, Gap when events are missing, Foreign when the database holds
        another history, and what the source raises.
        No connection is held while the source is read: an archive may take long.
        """
        try:
            self.checkpoint = self._read_checkpoint()
            self._require_ours()
            batch = self._read_source()
            if batch:
                self._write(batch)
            else:
                self._look()
        except Exception:
            if self._belonging:
                self._belonging.doubt()
            raise
        return len(batch)

    def mend(self) -> bool:
        """Create what is missing of the schema; whether anything was. After that the next batch starts at event 1."""
        mended = schema.mend(self._database.engine, self._now())
        if mended:
            log.warning("schema.mended")
        return mended

    def _read_checkpoint(self) -> int:
        with self._database.connect() as db:
            number = read_checkpoint(db)
        if number is None:
            self.mend()
        return number or 0

    def _require_ours(self) -> None:
        """Look closely where the database does not stand as we left it: it may be a restored one, or another's."""
        if self._belonging is None or self._belonging.is_known(self.checkpoint):
            return
        with self._database.connect() as db:
            stamp = read_stamp(db)
        if stamp is None:
            return  # the row went in this moment: the next look mends it
        name = self._belonging.require(stamp)
        if stamp.installation is None:
            with self._database.connect() as db:
                name_it(db, name)
                db.commit()
        log.info("database.recognised", checkpoint=stamp.number, installation=name)

    def _read_source(self) -> Sequence[Recorded]:
        try:
            batch = self._source.read(self.checkpoint, self._size)
        except Gap as gap:
            # What lies before it can be recorded. And look again if nothing does: the source looks at the stream and at
            # the newest number one after the other, so an event that arrives in between looks like a gap.
            before = gap.expected - self.checkpoint - 1
            batch = self._source.read(self.checkpoint, before if 0 < before < self._size else self._size)
        first = batch[0].event if batch else None
        begin = first.number if first and first.follows(self.checkpoint) else self.checkpoint + 1
        for expected, recorded in enumerate(batch, begin):
            if recorded.event.number != expected:
                raise Gap(expected, recorded.event.number)
        return batch

    def _look(self) -> None:
        """Notice a table that was dropped while nothing is written. After a failure the next look comes at once."""
        if self._monotonic() < self._look_at:
            return
        with self._database.connect() as db:
            schema.look(db)
        self._look_at = self._monotonic() + _LOOK

    def _write(self, batch: Sequence[Recorded]) -> None:
        try:
            with self._database.connect() as db:
                unreadable = write_batch(db, self.checkpoint, batch, now=self._now())
                if unreadable is None:
                    log.warning("checkpoint.moved", expected=self.checkpoint)  # another recorder, or a restore
                    return
                db.commit()
        except SQLAlchemyError:
            # If it was too much for the time a statement has (large contents, a slow disk), less of it may pass.
            self._size = max(1, len(batch) // 2)
            raise
        self._size = min(self._most, self._size * 2)
        self.checkpoint = batch[-1].event.number
        self.recorded_until = instant_of(batch[-1].event)
        if self._belonging:
            self._belonging.moved(self.checkpoint)
        _RECORDED.inc(len(batch))
        for number in unreadable:
            _UNREADABLE.inc()
            log.error("event.unreadable", number=number)


def run(settings: Settings) -> None:
    """The recorder process: until SIGTERM or SIGINT. Returns after the batch under way."""
    collect_seldom()
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    redis = redis_sync(settings)
    chaos = Chaos.open(settings)
    source = EventSource(redis, settings)
    # Twice as patient as a reader: a slow database slows it down, and does not stop it.
    patience = 2 * settings.database_acquire_timeout
    database = Database.open(settings, "recorder", gate=chaos.gate, patience=patience, limit=_LIMIT, writer=True)
    belonging = Belonging(source, Installation(redis, settings))
    recorder = Recorder(database, source, batch=settings.recorder_batch, belonging=belonging)
    report = Report(Progress(redis, settings))
    serve_probe(settings, alive=report.is_alive)
    recording = Recording(
        recorder,
        wait=source.wait,
        newest=source.newest,
        report=report,
        stop=stop,
        may_mend=lambda: chaos.get().mode is not Mode.DROPPED,
        standing_back=StandingBack(now=clock.now),
    )
    watch = SessionWatch.of(database)
    threading.Thread(target=watch.run, args=(stop,), name="sessions", daemon=True).start()
    with report:
        recording.run()
    database.close()
    redis.close()
