"""Runs the programs of a stack: starts them, starts again within a second what dies, stops them in order."""

import contextlib
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Self

from nightmail.child import Child
from nightmail.embedded import Program

_GRACE = 30.0  # seconds between SIGTERM and SIGKILL: a worker finishes what it is sending
_TICK = 1.0  # longest sleep: logs are bounded and the queue of restarts is looked over at least this often


class Alarm:
    """Wakes the supervisor: a child died, or somebody wants it to stop. One thread, no race: a pipe to select on.

    While it is entered SIGTERM, SIGINT, SIGHUP and SIGCHLD belong to it.
    """

    _NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

    def __init__(self) -> None:
        self.stopping = False

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._earlier = {number: signal.signal(number, self._ring) for number in self._NUMBERS}
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno())
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    def _ring(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self.stopping = True

    def wait(self, seconds: float) -> None:
        """Sleep until a signal, or for `seconds`."""
        select.select([self._reader], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass


class Supervisor:
    """Children in the order of their start. `changed` is called whenever a process started or died."""

    def __init__(
        self, *, environment: Mapping[str, str], log_folder: Path, alarm: Alarm, changed: Callable[[], None]
    ) -> None:
        self._environment = environment
        self._log_folder = log_folder
        self._alarm = alarm
        self._changed = changed
        self.children: list[Child] = []

    def start(self, programs: Iterable[Program]) -> None:
        """Start the programs; from now on they are kept alive."""
        for program in programs:
            child = Child(program, self._environment, self._log_folder / f"{program.name}.log")
            child.start()
            self.children.append(child)
        self._changed()

    def tend(self, *, at_most: float = _TICK) -> None:
        """Wait for something to do, at most that many seconds, and do it."""
        delays = [delay for child in self.children if (delay := child.wakes_in) is not None]
        self._alarm.wait(min([at_most, *delays]))
        if self._alarm.stopping:
            return
        changes = [child.tend() for child in self.children]
        if any(changes):
            self._changed()
        for child in self.children:
            child.bound_log()

    def failing(self, deaths: int) -> Child | None:
        """A child that died at least so many times in a row right after its start."""
        return next((child for child in self.children if child.died_young >= deaths), None)

    def stop(self) -> None:
        """Stop stage by stage, so that whoever feeds another stops first. After its grace a stage is killed."""
        for stage in sorted({child.program.stage for child in self.children}):
            members = [child for child in self.children if child.program.stage == stage]
            for child in members:
                child.terminate()
            deadline = time.monotonic() + _GRACE
            while time.monotonic() < deadline and not all(child.ended() for child in members):
                self._alarm.wait(0.1)
            for child in members:
                child.kill()
