"""The next hop of both sides: Postfix's `smtp-sink`, which throws mail away, and when it has had how many."""

import os
import re
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from nightmail.leash import leashed
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import until_sync

_MAILS = re.compile(rb"mesg=(\d+)")
_NAP = 0.002  # seconds between two reads under load: one per mail would take processor time from those we measure
_BACKLOG = 512
_UNPRIVILEGED = "nobody"  # smtp-sink refuses to run as root


class Sink:
    """`with Sink() as sink:` listens on a free port. Its counter, which comes by a pipe, is read by a thread."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host = host
        self.port = port or free_port()
        self.is_exact = False  # True: note each mail the moment it is counted, for measuring one at a time
        self._changed = threading.Condition()
        self._count = 0
        self._counted_at = time.perf_counter()

    def __enter__(self) -> Self:
        program = shutil.which("smtp-sink")
        if program is None:
            raise LookupError("smtp-sink is not installed: apt install postfix")
        user = ["-u", _UNPRIVILEGED] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(  # noqa: S603 - our own words
            leashed([program, *user, "-c", f"{self._host}:{self.port}", str(_BACKLOG)]), stdout=subprocess.PIPE
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        until_sync(self._listens)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _listens(self) -> bool:
        return _is_listening(self.port)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        while octets := os.read(self._process.stdout.fileno(), 65_536):
            at = time.perf_counter()
            counts = _MAILS.findall(octets)
            if counts:
                with self._changed:
                    self._count, self._counted_at = int(counts[-1]), at
                    self._changed.notify_all()
            if not self.is_exact:
                time.sleep(_NAP)

    @property
    def count(self) -> int:
        """Mails so far."""
        return self._count

    def wait_for(self, count: int, *, seconds: float) -> float:
        """When it had had so many, by `time.perf_counter`. TimeoutError when it does not get there in time."""
        return self.look(count, seconds=seconds)[1]

    def look(self, least: int, *, seconds: float) -> tuple[int, float]:
        """Once it has had `least`: how many it has had, and when the last of them came. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._count >= least, timeout=seconds):
                raise TimeoutError(f"The sink had {self._count} of {least} mails after {seconds:.0f} s")
            return self._count, self._counted_at


def _is_listening(port: int) -> bool:
    """Without connecting: that would count as a session."""
    wanted = f":{port:04X}"
    with suppress(OSError), open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123 - no regular file
        return any(row.split()[1].endswith(wanted) and row.split()[3] == "0A" for row in table.readlines()[1:])
    return False
