"""The Valkey of a data folder, run without its stack: to fill it, or to look at what a power cut has left."""

import os
import signal
import subprocess
import time
from pathlib import Path

import redis

from nightmail import valkey
from nightmail.leash import leashed

_PATIENCE = 60.0  # seconds to load what it holds, and to stop


class Queue:
    """Laid out as that of a stack, so that a stack can take it over."""

    def __init__(self, data_dir: Path, *, port: int, log: Path) -> None:
        self._log = log
        self._port = port
        self._configuration, self._password = valkey.write_configuration(data_dir / "valkey", port=port)
        self._process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """For NIGHTMAIL_REDIS_URL."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def client(self) -> redis.Redis:
        """A blocking client."""
        return redis.Redis(port=self._port, password=self._password, socket_timeout=30)

    def start(self) -> float:
        """Start it and wait until it has loaded what it holds; how many seconds that took."""
        began = time.monotonic()
        valkey.cut_unwritten_tail(self._configuration.parent)  # as `nightmail up` does
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                leashed([str(valkey.binary()), str(self._configuration)]), stdout=log, stderr=log, cwd=os.sep
            )
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    if self._process.poll() is not None or time.monotonic() > began + _PATIENCE:
                        raise
                    time.sleep(0.02)
                else:
                    return time.monotonic() - began

    def stop(self) -> None:
        """A clean stop."""
        self._process.terminate()
        self._process.wait(_PATIENCE)

    def hang(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        self._process.wait()
