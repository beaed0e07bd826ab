"""Cuts a PostgreSQL connection whose holder has waited too long for a server that hangs.

A stopped server still acknowledges TCP, so no timeout of the kernel or of libpq ends the wait, and statement_timeout
is kept by the very server that hangs. Shutting the socket down makes the waiting call fail at once.
"""

import contextlib
import os
import socket
import threading
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

_KEY = "watchdog"


class Watchdog:
    """A timer on one connection's socket. Works on a duplicate of it, so a number used again is never cut."""

    def __init__(self, descriptor: int, limit: float) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._timer = threading.Timer(limit, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def _cut(self) -> None:
        with contextlib.suppress(OSError):  # disarmed in this moment
            self._socket.shutdown(socket.SHUT_RDWR)

    def disarm(self) -> None:
        """The holder is done in time."""
        self._timer.cancel()
        self._socket.close()


def watch(engine: sa.Engine, limit: float) -> None:
    """Let nobody hold a connection of `engine` for more than `limit` seconds, its greeting included."""

    def arm(connection: Any, record: Any) -> None:
        disarm(connection, record)
        record.info[_KEY] = Watchdog(connection.fileno(), limit)

    def disarm(_connection: Any, record: Any, *_rest: Any) -> None:
        dog: Watchdog | None = record.info.pop(_KEY, None) if record is not None else None
        if dog is not None:
            dog.disarm()

    def connect(dialect: sa.Dialect, record: Any, arguments: Any, options: Any) -> Any:
        connection = dialect.connect(*arguments, **options)
        arm(connection, record)
        return connection

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "checkout", lambda connection, record, _proxy: arm(connection, record))
    for name in ("checkin", "invalidate", "close"):
        event.listen(engine, name, disarm)
