"""Tells the queue, once a second, where the recorder is: the backlog shows it while the database is down.

A thread of its own, so that a recorder that waits for a hanging database still says that it waits.
"""

import threading
import time
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

from prometheus_client import Enum, Gauge

from outbox.stream import Progress
from runtime import logs
from runtime.connections import StoreError

log = logs.get(__name__)

_PERIOD = 1.0
_SILENT = 5.0  # seconds without a word: it waits for a database that hangs, long before the wait is given up


class RecorderState(StrEnum):
    """The recorder in one word."""

    OK = "ok"  # in step, or catching up
    WAITING = "waiting"  # the database or the queue is away; nothing is lost meanwhile
    GAP = "gap"  # events are missing: a person must look
    FOREIGN = "foreign"  # the database holds another history than our events: a person must look
    REBUILDING = "rebuilding"  # tables were missing; they are being refilled from the first event on


_CHECKPOINT = Gauge("nightmail_recorder_checkpoint", "Number of the last event in the main database.")
_STATE = Enum("nightmail_recorder_state", "What the recorder does.", states=[state.value for state in RecorderState])


class Report:
    """The recorder's last word on itself. `with report:` publishes it each second, and at once when it changes."""

    def __init__(self, progress: Progress, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._monotonic = monotonic
        self._told_at = monotonic()
        self._word = (0, RecorderState.WAITING, "starting")
        self._changed = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)

    @property
    def state(self) -> RecorderState:
        """The state last told."""
        return self._word[1]

    @property
    def error(self) -> str:
        """The error last told; empty if there was none."""
        return self._word[2]

    def tell(self, checkpoint: int, state: RecorderState, error: str = "") -> None:
        """Take a new word. A change of state or error is logged, and published at once."""
        changed = self._word[1:] != (state, error)
        self._word = (checkpoint, state, error)
        self._told_at = self._monotonic()
        if changed:
            level = log.error if state is RecorderState.GAP else log.warning if error else log.info
            level("recorder.changed", state=state, checkpoint=checkpoint, error=error)
            self._changed.set()

    def is_alive(self) -> bool:
        """Whether the thread runs; for /livez."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            self._publish()
            self._changed.wait(_PERIOD)
            self._changed.clear()

    def current(self) -> tuple[int, RecorderState, str]:
        """The last word; where none came for long, that the recorder waits."""
        checkpoint, _, error = self._word
        silent = self._monotonic() - self._told_at
        if silent > _SILENT and not error:
            return checkpoint, RecorderState.WAITING, f"the database has not answered for {silent:.0f} s"
        return self._word

    def _publish(self) -> None:
        checkpoint, state, error = self.current()
        _CHECKPOINT.set(checkpoint)
        _STATE.state(state)
        try:
            self._progress.publish(checkpoint, state, error)
        except StoreError:
            log.debug("progress.unpublished")  # the queue is away: its own alarms tell

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping = True
        self._changed.set()
        self._thread.join(timeout=5)
        self._publish()
