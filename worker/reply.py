"""SMTP replies from octets (RFC 5321 section 4.2), bounded: a hostile server can neither fill memory nor never end."""

from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from operator import attrgetter

MAX_LINE = 2048  # octets; RFC 5321 section 4.5.3.1.5 asks for 512, some servers send more
MAX_REPLY = 32 * 1024  # octets of one reply, all its lines
MAX_UNREAD = 256  # replies nobody asked for
_DIGITS = 3  # of a code


class Code(IntEnum):
    """Reply codes that mean something particular at their place (RFC 5321 section 4.2.3, RFC 4954)."""

    AUTH_DONE = 235
    AUTH_GOES_ON = 334
    START_INPUT = 354
    CLOSING = 421
    TOO_MANY_RECIPIENTS = 452
    STORAGE_EXCEEDED = 552
    BAD_MAILBOX_NAME = 553


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: its code and the text of its lines, without codes and line ends."""

    code: int
    lines: tuple[str, ...] = ()
    goes_on: bool = field(default=False, repr=False, compare=False)  # a line of it that is not its last
    positive: bool = field(init=False, repr=False, compare=False)  # 2yz: the command was done
    intermediate: bool = field(init=False, repr=False, compare=False)  # 3yz: the server waits for more
    closing: bool = field(init=False, repr=False, compare=False)  # 421: the server closes the channel

    def __post_init__(self) -> None:
        object.__setattr__(self, "positive", 200 <= self.code < 300)  # noqa: PLR2004
        object.__setattr__(self, "intermediate", 300 <= self.code < 400)  # noqa: PLR2004
        object.__setattr__(self, "closing", self.code == Code.CLOSING)

    @property
    def text(self) -> str:
        """All lines as one, for people."""
        return " ".join(self.lines)

    @property
    def permanent(self) -> bool:
        """5yz: the command will not be done, now or later."""
        return self.code // 100 == 5  # noqa: PLR2004

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


class NoReply(ValueError):
    """The octets are no reply, or exceed its bounds."""


class ReplyReader:
    """Collects octets as they come and gives whole replies."""

    def __init__(self) -> None:
        self._rest = b""  # the start of a line whose end has not come
        self._lines: list[str] = []  # the lines so far of a reply whose last line has not come
        self._code = 0
        self._size = 0

    @property
    def midway(self) -> bool:
        """Whether a reply has begun and not ended."""
        return bool(self._rest or self._lines)

    def feed(self, octets: bytes) -> list[Reply]:
        """The replies that these octets complete. Raises NoReply; the reader is of no use afterwards."""
        *lines, self._rest = (self._rest + octets).split(b"\n")
        replies = list(map(_parsed, lines))
        if self._lines or any(map(_goes_on, replies)):  # else each line is a reply
            replies = list(filter(None, map(self._add, replies, map(len, lines))))
        if len(self._rest) > MAX_LINE or len(replies) > MAX_UNREAD:
            raise NoReply("it does not end")
        return replies

    def _add(self, line: Reply, size: int) -> Reply | None:
        """The next line: the reply, if this was its last."""
        self._size += size
        if self._size > MAX_REPLY:
            raise NoReply("it does not end")
        if self._lines and line.code != self._code:  # RFC 5321 section 4.2.1: the code is the same on every line
            raise NoReply(f"its code changes from {self._code} to {line.code}")
        self._code = line.code
        self._lines += line.lines
        if line.goes_on:
            return None
        reply = Reply(line.code, tuple(self._lines))
        self._lines, self._size = [], 0
        return reply


@lru_cache(maxsize=256)
def _parsed(line: bytes) -> Reply:
    """A line as a reply. Remembered, since servers say the same again and again."""
    line = line.removesuffix(b"\r")
    if len(line) > MAX_LINE:
        raise NoReply("it does not end")
    head, mark = line[:3], line[3:4]
    if not (len(head) == _DIGITS and head.isdigit() and b"200" <= head <= b"599" and mark in (b"", b" ", b"-")):
        raise NoReply(f"{line[:64]!r} is no reply line")
    return Reply(int(head), (printable(line[4:]),), mark == b"-")


_goes_on = attrgetter("goes_on")


def printable(octets: bytes) -> str:
    """Text that is safe in logs and JSON: control characters (log forging, terminal escapes) become `?`."""
    text = octets.decode("utf-8", "replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
