"""One role in several processes on the same ports (SO_REUSEPORT): the kernel spreads connections over them.

The parent serves nobody. It starts again what ends, so `kill -TERM` of one process renews it while the others serve,
and passes its own end on to all of them.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from types import FrameType

from nightmail.leash import leashed
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_GRACE = 25.0  # seconds between SIGTERM and SIGKILL; whoever supervises the parent waits 30
_YOUNG = 1.0  # seconds; who ends sooner is not started again at once
_PROBES_APART = 100  # between the probe ports of two of them: a local stack counts up by one for each of its processes


class Several:
    """The processes of one role."""

    def __init__(self, role: str, settings: Settings, *, count: int) -> None:
        self._role = role
        self._probe_port = settings.probe_port
        self._count = count
        self._started: dict[int, float] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._is_stopping = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for at in range(self._count):
            self._start(at)
        while not self._is_stopping:
            self._renew_one()
        deadline = time.monotonic() + _GRACE
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()

    def _start(self, at: int) -> None:
        self._started[at] = time.monotonic()
        self._processes[at] = subprocess.Popen(  # noqa: S603  (the command is ours)
            leashed([sys.executable, "-P", "-m", "nightmail", self._role, "--share"]),
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self._environment(at)},
        )

    def _environment(self, at: int) -> Mapping[str, str]:
        return {"NIGHTMAIL_PROBE_PORT": str(self._probe_port + _PROBES_APART * at)} if self._probe_port else {}

    def _renew_one(self) -> None:
        """Wait until one ends, and start it again."""
        pid, status = os.wait()
        ended = next((at for at, process in self._processes.items() if process.pid == pid), None)
        if ended is None or self._is_stopping:
            return
        log.warning("process.ended", role=self._role, pid=pid, code=os.waitstatus_to_exitcode(status))
        time.sleep(max(0.0, self._started[ended] + _YOUNG - time.monotonic()))
        self._start(ended)
        if self._is_stopping:  # a signal came meanwhile
            self._stop()

    def _stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        self._is_stopping = True
        for process in self._processes.values():
            process.terminate()
