"""The stores on a disk whose power is cut: a Valkey and a process that accepts. Started again after each cut."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from faults.power.disk import LoopDisk
from faults.power.queue import Queue
from faults.power.survivors import Survivors, another_boot
from nightmail.embedded import child_environment
from nightmail.leash import leashed
from nightmail.private import kept_secret
from tests.fixtures.valkey import free_port

_PATIENCE = 60.0  # seconds for the first acknowledgement
_STREAMS, _BATCH = 8, 20  # accepts under way, and mails in each


class Bench:
    """The data folder is laid out as that of a stack, so that a stack can take it over and deliver."""

    def __init__(self, disk: LoopDisk, ledger: Path, logs: Path) -> None:
        self._disk = disk
        self._ledger = ledger
        self._log = logs / "power.log"
        self._filler: subprocess.Popen[bytes]
        self.data_dir = disk.root / "data"
        self.data_dir.mkdir()
        kept_secret(self.data_dir / "secret")
        self.queue = Queue(self.data_dir, port=free_port(), log=self._log)

    def acknowledged(self) -> list[str]:
        """All ids so far. A last line that is cut short was not written whole, so nobody was told."""
        lines = self._ledger.read_bytes().split(b"\n")[:-1] if self._ledger.exists() else []
        return [line.decode() for line in lines]

    def fill(self) -> None:
        """Accept, from now on; returns with the first acknowledgement of this life."""
        before = self._size()
        added = {"NIGHTMAIL_DATA_DIR": str(self.data_dir), "NIGHTMAIL_REDIS_URL": self.queue.url}
        command = [sys.executable, "-m", "faults.power.filler", str(self._ledger), str(_STREAMS), str(_BATCH)]
        with self._log.open("ab") as log:
            self._filler = subprocess.Popen(  # noqa: S603 - the command is ours
                leashed(command), stdout=log, stderr=log, env=child_environment(added), cwd=os.sep
            )
        deadline = time.monotonic() + _PATIENCE
        while self._size() == before:
            if self._filler.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nothing is accepted:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)

    def cut(self) -> None:
        """Stop the writers, so that the ledger stands still; cut the power; bury them; boot."""
        self._filler.send_signal(signal.SIGSTOP)
        self.queue.hang()
        self._disk.cut()
        self._filler.kill()
        self._filler.wait()
        self.queue.kill()
        self._disk.restore()
        another_boot(self.data_dir)

    def survivors(self) -> Survivors:
        """What the disk holds. The queue must run."""
        with self.queue.client() as client:
            return Survivors.read(self.data_dir, client, name="id")

    def _size(self) -> int:
        return self._ledger.stat().st_size if self._ledger.exists() else 0
