"""A client that takes every connection it gets and gives none back: February 2026."""

import threading
import time
from typing import Any

import sqlalchemy as sa
from psycopg.pq import ConnStatus, PGconn

_IDLE_PAUSE = 0.5  # seconds between two tries once it has made all that it wanted: it goes on trying


class Rogue:
    """Runs in a thread of its own: `wanted` tries within `seconds`, then more at leisure, until it leaves."""

    def __init__(self, url: str, wanted: int, *, seconds: float) -> None:
        self._url = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False).encode()
        self._wanted = wanted
        self._pause = seconds / wanted
        self._leaving = threading.Event()
        self._held: list[Any] = []
        self._thread = threading.Thread(target=self._run, name="rogue", daemon=True)
        self.tried = 0
        self.refused = 0
        self.slowest_refusal = 0.0
        self.words: set[str] = set()

    @property
    def held(self) -> int:
        """Connections it was given; the server may have ended some of them since."""
        return len(self._held)

    def begin(self) -> None:
        """Start to take."""
        self._thread.start()

    def leave(self) -> None:
        """Give everything back."""
        self._leaving.set()
        self._thread.join(timeout=30)
        for connection in self._held:
            connection.finish()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._leaving.is_set():
            self._open()
            late = time.monotonic() - began - self.tried * self._pause  # a try that took long is made up for
            self._leaving.wait(max(0.0, -late) if self.tried < self._wanted else _IDLE_PAUSE)

    def _open(self) -> None:
        began = time.monotonic()
        connection: Any = PGconn.connect(self._url)  # of libpq itself: three times as fast
        self.tried += 1
        if connection.status != ConnStatus.OK:
            self.refused += 1
            self.slowest_refusal = max(self.slowest_refusal, time.monotonic() - began)
            self.words.add(connection.get_error_message().rpartition("FATAL:  ")[2].strip())
            connection.finish()
            return
        self._held.append(connection)
        if self.held % 2:
            connection.exec_(b"BEGIN")
