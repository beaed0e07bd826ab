"""Mail by SMTP: many sessions by Postfix's `smtp-source`, or one mail at a time by a client of ours."""

import shutil
import socket
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Self

from bench.content import text

SENDER = "news@sender.test"
RECIPIENT = "reader@dest.test"  # smtp-source puts a number in front
SIZE = 4096  # octets of a message's body
_BODY = text(SIZE - 2) + b"\r\n"
_HEAD = f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: One\r\n\r\n".encode()
_PATIENCE = 240.0  # seconds


def send_many(port: int, mails: int, *, sessions: int) -> tuple[float, float]:
    """Send as fast as so many sessions go; when it began and when all were accepted, by `time.perf_counter`."""
    program = shutil.which("smtp-source")
    if program is None:
        raise LookupError("smtp-source is not installed: apt install postfix")
    with tempfile.NamedTemporaryFile(suffix=".eml") as mail:
        mail.write((_HEAD + _BODY).replace(b"\r\n", b"\n"))
        mail.flush()
        words = [program, "-s", str(sessions), "-F", mail.name, "-m", str(mails), "-N", "-d"]
        began = time.perf_counter()
        subprocess.run(  # noqa: S603 - our own words
            [*words, "-f", SENDER, "-t", RECIPIENT, f"127.0.0.1:{port}"], check=True, timeout=_PATIENCE
        )
        return began, time.perf_counter()


class OneAtATime:
    """One session that stays open, as that of an application."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._replies = self._socket.makefile("rb")
        self._expect(b"220")
        self._say(b"HELO bench.test", b"250")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._replies.close()
        self._socket.close()

    def send(self, number: int) -> float:
        """One mail, accepted when this returns; when MAIL was said, by `time.perf_counter`."""
        began = time.perf_counter()
        self._say(b"MAIL FROM:<%s>" % SENDER.encode(), b"250")
        self._say(b"RCPT TO:<%d%s>" % (number, RECIPIENT.encode()), b"250")
        self._say(b"DATA", b"354")
        self._say(_HEAD + _BODY + b".", b"250")
        return began

    def _say(self, line: bytes, code: bytes) -> None:
        self._socket.sendall(line + b"\r\n")
        self._expect(code)

    def _expect(self, code: bytes) -> None:
        reply = self._replies.readline()
        if not reply.startswith(code):
            raise ConnectionError(f"SMTP reply {reply!r} in place of {code!r}")
