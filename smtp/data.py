"""The content of one DATA command, gathered with bounded memory and checked to be canonical.

Only <CRLF>.<CRLF> ends it. Every other spelling of a line end is content, and bare CR or LF in content is what SMTP
smuggling is made of: a later hop that takes one for a line end would see a second message. So they are refused, or by
setting turned into CRLF, after which the next hop gets them dot-stuffed like any other line.
"""

import re
from typing import Literal

from outbox.door import Octets
from smtp.replies import Goodbye, Refused, Reply, too_large

_END = b"\r\n.\r\n"
_FREE = 32_768  # octets of a message that are not counted: connections are, and most mail is small
_LINE_END = re.compile(rb"\r\n|\r|\n")

# RFC 5321 section 4.5.3.1.6 has 998 octets, and says that implementations should take more where they can. Mail
# programs do send long lines of HTML, and refusing or folding them would lose or change mail that most next hops take.
# Memory does not depend on this bound: the size of the whole message bounds it.
MAX_LINE = 100_000

_WINDOW = 256 * 1024  # octets looked at in one go: no longer than other threads can wait


class Content:
    """Gathers octets up to the final dot, at most `most` of them once their dots are unstuffed.

    What is too large is taken to its end and dropped, so that the client hears why; one that goes on for as long again
    is cut off. What it takes of the memory it keeps until `release`.
    """

    def __init__(self, *, most: int, memory: Octets) -> None:
        self._most = most
        self._wire_most = most + most // 3 + len(_END)  # a stuffed line of three octets travels as four
        self._unjudged = min(_FREE, self._wire_most)
        self._memory = memory
        self._taken = 0
        self._pieces: list[bytes] = []
        self.size = 0  # octets that came
        self._last = b"\r\n"  # the end of what came: the CRLF of the DATA line begins the end of an empty content
        self._refusal: Reply | None = None

    def feed(self, octets: bytes) -> bytes | None:
        """Take what came; what follows the final dot, or None while the dot has not come. Raises Goodbye: 552."""
        last = self._last
        at = (last + octets[:4]).find(_END) - len(last)  # an end over the seam comes before any behind it
        if at < -len(last):
            at = octets.find(_END)
            if at < 0:
                self._gather(octets)
                self._last = (last + octets[-4:])[-4:]
                return None
        end = at + len(_END)
        self._gather(octets[:end])
        return octets[end:]

    def _gather(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._refusal is None and self.size > self._unjudged:
            self._refusal = self._judged()
        if self._refusal is None:
            self._pieces.append(self._unstuffed(piece))
            return
        self._pieces.clear()
        if self.size > 2 * self._wire_most:
            raise Goodbye.of(self._refusal)

    def _unstuffed(self, piece: bytes) -> bytes:
        """The piece less the dots that begin a line. Piece by piece: doing it to 25 MB at once would stop everybody."""
        before = self._last[-2:]
        return (before + piece).replace(b"\r\n.", b"\r\n")[len(before) :]

    def _judged(self) -> Reply | None:
        if self.size > self._wire_most:
            return too_large(self._most)
        if (more := self.size - _FREE - self._taken) > 0:
            if not self._memory.take(more):
                return Reply(452, "4.3.1", "No room for a message of this size now")
            self._taken += more
        return None

    def octets(self) -> bytes:
        """The content without stuffed dots (RFC 5321 section 4.5.2). Raises Refused: 552 too large, 452 no room now."""
        if self._refusal is not None:
            raise Refused.of(self._refusal)
        content = b"".join(self._pieces)[:-2]  # the final line, less its dot
        self._pieces.clear()
        if len(content) > self._most:
            raise Refused.of(too_large(self._most))
        return content

    def release(self) -> None:
        """Give the memory back. Again and again does nothing."""
        self._pieces.clear()
        if self._taken:
            self._memory.give_back(self._taken)
            self._taken = 0


def canonical(content: bytes, *, bare: Literal["refuse", "normalise"], most: int) -> bytes:
    """`content` with CRLF as its only line end, without NUL, in lines of at most `MAX_LINE`; raises Refused.

    It is measured again, because each bare line end that becomes CRLF makes it longer: at most `most` octets.
    """
    if b"\0" in content:
        raise Refused(550, "5.6.11", "NUL in content (RFC 5321 section 4.5.2)")
    if _has_bare(content):
        if bare == "refuse":
            raise Refused(550, "5.6.11", "Bare CR or LF in content (RFC 5321 section 2.3.8)")
        content = _LINE_END.sub(b"\r\n", content)
        if len(content) > most:
            raise Refused.of(too_large(most))
    if _has_long_line(content):
        raise Refused(550, "5.6.0", f"Line longer than {MAX_LINE} octets")
    return content


def _has_bare(content: bytes) -> bool:
    """Whether a CR or LF stands alone. Looks through a window at a time, which ends behind a pair that it begins."""
    start = 0
    while start < len(content):
        end = start + _WINDOW
        end += content[end - 1 : end + 1] == b"\r\n"
        lines = content[start:end].replace(b"\r\n", b"")
        if b"\r" in lines or b"\n" in lines:
            return True
        start = end
    return False


def _has_long_line(content: bytes) -> bool:
    """Whether a line is over `MAX_LINE`: jumps from line end to line end, a window at a time."""
    start = 0
    while len(content) - start > MAX_LINE:
        end = content.rfind(b"\r\n", start, start + MAX_LINE + 2)
        if end < 0:
            return True
        start = end + 2
    return False
