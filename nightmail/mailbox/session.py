"""The mailbox's SMTP (RFC 5321): plain, pipelined, and fast enough to be the far end of a load test.

One `Session` per connection. Replies leave in order, one write for all commands that came together (RFC 2920). After
the final dot nothing is read on until the message is on disk; only then the 250.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import cast

from nightmail.mailbox.store import Letter, Store

_LINE = 4096  # longest command line; RFC 5321 section 4.5.3.1.4 asks for 512, extensions for more
_READ_AHEAD = 1024 * 1024  # octets taken from the socket while a message is on its way to the disk
_PATH = re.compile(r'(?:FROM|TO):\s*<((?:"(?:[^"\\]|\\.)*"|[^<>"])*)>(?:\s+(.*))?$', re.IGNORECASE)
_DOT = b"\r\n.\r\n"


class Mode(Enum):
    """What the next octets are."""

    COMMAND = auto()
    DATA = auto()
    TOO_LARGE = auto()  # content that will be refused at its end
    STORING = auto()  # nothing is read on


@dataclass(frozen=True, slots=True)
class Manners:
    """How the mailbox behaves: its name, the largest message, and whether it misbehaves on order."""

    hostname: str
    max_bytes: int
    misbehaves: bool = False


@dataclass(slots=True)
class Transaction:
    """One mail transaction: from MAIL to the dot."""

    reverse_path: str
    recipients: list[str] = field(default_factory=list)


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, store: Store, manners: Manners) -> None:
        self._store = store
        self._manners = manners
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._searched = 0  # octets of the buffer known to hold no final dot
        self._mode = Mode.COMMAND
        self._half_closed = False
        self._transaction: Transaction | None = None
        self._replies: list[bytes] = []
        self._verbs: dict[str, Callable[[str], None]] = {
            "EHLO": self._ehlo,
            "HELO": lambda _: self._greet(self._manners.hostname),
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": lambda _: self._reply("250 2.0.0 Ok"),
            "VRFY": lambda _: self._reply("252 2.0.0 Send some mail"),
            "QUIT": self._quit,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
        self._reply(f"220 {self._manners.hostname} Nightmail mailbox ESMTP")
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take octets and answer what they complete."""
        self._buffer += data
        if self._mode is Mode.STORING:
            if len(self._buffer) > _READ_AHEAD:
                self._transport.pause_reading()
            return
        self._proceed()

    def eof_received(self) -> bool:
        """The client half-closed; it still hears the reply of a message that is on its way to the disk."""
        self._half_closed = True
        return self._mode is Mode.STORING

    def _proceed(self) -> None:
        while not self._transport.is_closing() and self._step():
            pass
        self._flush()

    def _step(self) -> bool:
        """Handle one command or one content; False when more octets are needed."""
        if self._mode is Mode.COMMAND:
            return self._command()
        if self._mode is Mode.STORING:
            return False
        return self._content()

    def _command(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0 or end > _LINE:
            if len(self._buffer) > _LINE:
                self._reply("500 5.5.2 Line too long")
                self._close()
            return False
        line = self._buffer[:end].rstrip(b"\r").decode("utf-8", "replace")
        del self._buffer[: end + 1]
        verb, _, rest = line.partition(" ")
        handle = self._verbs.get(verb.upper())
        if handle:
            handle(rest)
        else:
            self._reply("500 5.5.1 Unknown command")
        return True

    def _greet(self, words: str) -> None:
        self._transaction = None
        self._reply(f"250 {words}")

    def _ehlo(self, _: str) -> None:
        lines = [self._manners.hostname, "PIPELINING", f"SIZE {self._manners.max_bytes}", "8BITMIME", "SMTPUTF8"]
        self._replies += [f"250-{line}\r\n".encode() for line in lines]
        self._greet("ENHANCEDSTATUSCODES")

    def _mail(self, rest: str) -> None:
        path = _PATH.match(rest)
        if path is None:
            self._reply("501 5.5.4 Syntax: MAIL FROM:<address>")
        elif self._transaction is not None:
            self._reply("503 5.5.1 Already in a transaction")
        elif _announced(path[2] or "") > self._manners.max_bytes:
            self._reply("552 5.3.4 Message too big")
        else:
            self._transaction = Transaction(path[1])
            self._reply("250 2.1.0 Ok")

    def _rcpt(self, rest: str) -> None:
        path = _PATH.match(rest)
        if self._transaction is None:
            self._reply("503 5.5.1 MAIL first")
        elif path is None or not path[1]:
            self._reply("501 5.5.4 Syntax: RCPT TO:<address>")
        elif self._manners.misbehaves and path[1].startswith("defer"):
            self._reply("450 4.2.0 Deferred on order")
        elif self._manners.misbehaves and path[1].startswith("refuse"):
            self._reply("550 5.1.1 Refused on order")
        else:
            self._transaction.recipients.append(path[1])
            self._reply("250 2.1.5 Ok")

    def _data(self, _: str) -> None:
        if self._transaction is None or not self._transaction.recipients:
            self._reply("503 5.5.1 No valid recipients")
            return
        self._mode = Mode.DATA
        self._buffer[:0] = b"\r\n"  # so that a dot on the first line is found like any other
        self._searched = 0
        self._reply("354 End with a dot on a line by itself")

    def _content(self) -> bool:
        end = self._buffer.find(_DOT, self._searched)
        if end < 0:
            self._read_on()
            return False
        content = bytes(self._buffer[: end + 2])  # with the CRLF that _data put before it
        del self._buffer[: end + len(_DOT)]
        self._end_of_content(content.replace(b"\r\n.", b"\r\n")[2:])  # RFC 5321 section 4.5.2
        return self._mode is Mode.COMMAND

    def _read_on(self) -> None:
        """Remember how far we looked; of content that is too large anyway keep only what may begin the final dot."""
        self._searched = max(0, len(self._buffer) - len(_DOT))
        if self._searched > self._manners.max_bytes * 2:  # dots may be doubled, so only twice is surely too much
            self._mode = Mode.TOO_LARGE
        if self._mode is Mode.TOO_LARGE:
            del self._buffer[: self._searched]
            self._searched = 0

    def _end_of_content(self, content: bytes) -> None:
        transaction, self._transaction = self._transaction, None
        assert transaction is not None  # noqa: S101 - DATA made sure
        if self._mode is Mode.TOO_LARGE or len(content) > self._manners.max_bytes:
            self._mode = Mode.COMMAND
            self._reply("552 5.3.4 Message too big")
            return
        self._mode = Mode.STORING
        self._flush()
        letter = Letter(transaction.reverse_path, tuple(transaction.recipients), content)
        self._store.put(letter, self._stored)

    def _stored(self, ok: bool) -> None:  # noqa: FBT001 - a callback's one answer
        self._mode = Mode.COMMAND
        if self._transport.is_closing():
            return
        self._reply("250 2.0.0 Kept" if ok else "451 4.3.0 Not kept, try again")
        self._transport.resume_reading()
        self._proceed()
        if self._half_closed and self._mode is not Mode.STORING:
            self._close()

    def _rset(self, _: str) -> None:
        self._transaction = None
        self._reply("250 2.0.0 Ok")

    def _quit(self, _: str) -> None:
        self._reply("221 2.0.0 Bye")
        self._close()

    def _reply(self, line: str) -> None:
        self._replies.append(f"{line}\r\n".encode())

    def _flush(self) -> None:
        if self._replies:
            self._transport.write(b"".join(self._replies))
            self._replies.clear()

    def _close(self) -> None:
        self._flush()
        self._transport.close()


def _announced(parameters: str) -> int:
    """The SIZE parameter of MAIL (RFC 1870), 0 without one."""
    found = re.search(r"(?:^|\s)SIZE=(\d{1,20})", parameters, re.IGNORECASE)
    return int(found[1]) if found else 0
