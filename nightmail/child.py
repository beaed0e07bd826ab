"""One child process of the supervisor: started on a leash, its output in a bounded log, started again when it dies."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from nightmail.embedded import Program
from nightmail.fork import Fork, can_fork
from nightmail.leash import leashed
from runtime.clock import now

_LOG_BYTES = 10 * 1024 * 1024  # of one file; one older file is kept beside it
_FIRST_DELAY = 0.1  # seconds before the first restart; doubles while the process keeps dying young
_LONGEST_DELAY = 5.0
_LONGEST_AFTER_KILL = 0.1  # kill -9 comes from outside: trying again soon costs little, and mail waits for it
_YOUNG = 5.0  # a process that lived longer than this was well


class Child:
    """A program and the process it runs in, if it runs."""

    def __init__(self, program: Program, environment: Mapping[str, str], log: Path) -> None:
        self.program = program
        self.log = log
        self.restarts = 0
        self._environment = {**environment, **dict(program.environment)}
        self._process: subprocess.Popen[bytes] | Fork | None = None
        self._started_at = now()
        self._started = 0.0
        self._due = 0.0
        self._died_young = 0

    @property
    def died_young(self) -> int:
        """How often in a row it died within seconds of its start."""
        return self._died_young

    @property
    def wakes_in(self) -> float | None:
        """Seconds until it is to be started again; None while it runs."""
        return None if self._process else max(0.0, self._due - time.monotonic())

    def start(self) -> None:
        """Start the process, in a session of its own: a Ctrl-C at the terminal is ours to handle, in order."""
        with self.log.open("ab") as log:
            self._process = self._fork(log) if self.program.words and can_fork() else self._execute(log)
        self._started_at = now()
        self._started = time.monotonic()

    def _fork(self, log: BinaryIO) -> Fork:
        return Fork(self.program.name, self.program.words, self._environment, log)

    def _execute(self, log: BinaryIO) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - the command is ours
            leashed(self.program.command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self._environment,
            start_new_session=True,
        )

    def tend(self) -> bool:
        """Notice a death, start again what is due; True when something changed."""
        if self._process is None:
            if time.monotonic() < self._due:
                return False
            self.restarts += 1
            self.start()
            return True
        if self._process.poll() is None:
            return False
        self._died_young = self._died_young + 1 if time.monotonic() - self._started < _YOUNG else 0
        longest = _LONGEST_AFTER_KILL if self._process.returncode == -signal.SIGKILL else _LONGEST_DELAY
        self._due = time.monotonic() + min(_FIRST_DELAY * 2 ** max(0, self._died_young - 1), longest)
        self._sweep()
        self._process = None
        return True

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process:
            self._process.terminate()

    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End it and whatever it left behind."""
        if self._process:
            self._process.kill()
            self._sweep()
            self._process.wait()

    def _sweep(self) -> None:
        """`kill -9` the whole session, so that a dead worker's own children do not go on without it."""
        assert self._process is not None  # noqa: S101 - the callers looked
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def bound_log(self) -> None:
        """Keep the log below its bound. Copied and cut, because the process holds the file open for appending."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)

    def last_words(self, lines: int = 5) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def to_dict(self) -> dict[str, Any]:
        """For stack.json."""
        return {
            "name": self.program.name,
            "pid": self._process.pid if self._process else None,
            "restarts": self.restarts,
            "started_at": self._started_at.isoformat(),
        }
