"""The recorder's loop: batch after batch, and what to do when one fails. Never ends by itself, loses nothing."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from history import schema
from history.errors import Foreign
from history.faults import words
from history.report import RecorderState, Report
from history.standing_back import StandingBack
from outbox.errors import Gap, ObjectsUnavailable, OutboxError
from runtime import logs
from runtime.connections import StoreError

log = logs.get(__name__)

_PAUSE = 0.5  # seconds after a failure: at most two tries a second, however the database fails
# Seconds to gather while few events wait: a small batch costs nearly what a large one does, some 25 ms for one event,
# and would be in the way of the mail that it tells of, or of the next one.
_GATHER = 0.5
_LOOK = 0.25  # seconds between two looks at whether there is room: shorter ones find gaps that close at once
_FEW = 500
_MANY = 16_000  # events; behind 20,000 the archive waits no longer, and their contents must be had from there
_IDLE = 0.5  # longest wait for news before the checkpoint is looked at again: the database may have been restored


class Step(Protocol):
    """What the loop drives: a Recorder."""

    checkpoint: int
    recorded_until: datetime | None

    def record_batch(self) -> int:
        """Record some events; how many."""

    def mend(self) -> bool:
        """Create what is missing of the schema; whether anything was."""


class Recording:
    """Drives a recorder until `stop`.

    `wait(after, seconds)` returns early on news; `newest()` is the number of the newest event; `may_mend`: chaos
    allows it; `standing_back`: who says whether others go first.
    """

    def __init__(
        self,
        recorder: Step,
        *,
        wait: Callable[[int, float], None],
        newest: Callable[[], int],
        report: Report,
        stop: threading.Event,
        may_mend: Callable[[], bool] = lambda: True,
        standing_back: StandingBack | None = None,
    ) -> None:
        self._recorder = recorder
        self._wait = wait
        self._newest = newest
        self._report = report
        self._stop = stop
        self._may_mend = may_mend
        self._standing_back = standing_back
        self._rebuilding = False

    def run(self) -> None:
        """Record until stopped."""
        while not self._stop.is_set():
            self._step()

    def _step(self) -> None:
        try:
            self._record()
        except SQLAlchemyError as error:
            self._database_failed(error)
        except Gap as gap:
            self._failed(RecorderState.GAP, str(gap))
        except Foreign as foreign:
            self._failed(RecorderState.FOREIGN, str(foreign))
        except ObjectsUnavailable as error:
            self._failed(RecorderState.WAITING, str(error))
        except (OutboxError, *StoreError):
            self._failed(RecorderState.WAITING, "the queue is away")
        except Exception as error:
            if self._report.error != words(error):  # once, however often it is tried
                log.exception("recorder.surprised")
            self._failed(RecorderState.WAITING, words(error))

    def _record(self) -> None:
        recorded = self._recorder.record_batch()
        caught_up = recorded == 0
        if caught_up:
            self._rebuilding = False
        state = RecorderState.REBUILDING if self._rebuilding else RecorderState.OK
        self._report.tell(self._recorder.checkpoint, state)
        if caught_up:
            self._wait(self._recorder.checkpoint, _IDLE)
        # While nothing waits there is nothing to gather, and whether the database is what it was is seen the sooner.
        if 0 < self._behind() < (_MANY if self._is_young() else _FEW):
            self._rest()

    def _behind(self) -> int:
        return self._newest() - self._recorder.checkpoint

    def _is_young(self) -> bool:
        return self._standing_back is not None and self._standing_back.is_young(self._recorder.recorded_until)

    def _rest(self) -> None:
        """Gather, and let others go first where there is not enough for all."""
        if self._standing_back:
            self._standing_back.begin()
        self._stop.wait(_GATHER)
        while self._standing_back and self._standing_back.goes_on(self._recorder.recorded_until):
            if self._behind() >= _MANY or self._stop.wait(_LOOK):
                return

    def _database_failed(self, error: SQLAlchemyError) -> None:
        checkpoint = self._recorder.checkpoint
        if schema.is_missing(error):
            self._recorder.checkpoint = 0  # what was recorded is gone with the tables
        if not (schema.is_missing(error) and self._may_mend()):
            self._failed(RecorderState.WAITING, words(error))
            return
        try:
            mended = self._recorder.mend()
        except SQLAlchemyError as worse:
            self._failed(RecorderState.WAITING, words(worse))
            return
        if mended:
            self._rebuilding = True
        else:  # what is missing is nothing that we make, such as one column of a table: a person must look
            self._recorder.checkpoint = checkpoint
            self._failed(RecorderState.WAITING, words(error))

    def _failed(self, state: RecorderState, error: str) -> None:
        self._report.tell(self._recorder.checkpoint, state, error)
        self._stop.wait(_PAUSE)
