"""The content of one DATA command, read with bounded memory and checked to be canonical.

Only <CRLF>.<CRLF> ends it. Every other spelling of a line end is content, and bare CR or LF in content is what SMTP
smuggling is made of: a later hop that takes one for a line end would see a second message. So they are refused, or by
setting turned into CRLF, after which the next hop gets them dot-stuffed like any other line.
"""

import asyncio
import re
from typing import Literal

from smtp.limits import Lease
from smtp.replies import Goodbye, Refused, Reply

_END = b"\r\n.\r\n"
_LINE_END = re.compile(rb"\r\n|\r|\n")

# RFC 5321 section 4.5.3.1.6 has 998 octets, and says that implementations should take more where they can. Mail
# programs do send long lines of HTML, and refusing or folding them would lose or change mail that most next hops take.
# Memory does not depend on this bound: the size of the whole message bounds it.
MAX_LINE = 100_000


async def receive(reader: asyncio.StreamReader, *, most: int, lease: Lease) -> bytes:
    """Octets up to the final dot, dots unstuffed (RFC 5321 section 4.5.2), at most `most` of them.

    What is too large is read to its end and dropped, so that the client hears why; one that goes on for as long again
    is cut off.

    Raises:
        Refused: 552 too large, 452 no room now. Goodbye: 552 and still sending. IncompleteReadError: the client left.
    """
    wire_most = most + most // 3 + len(_END)  # a stuffed line of three octets travels as four
    # The CRLF of the DATA line is the first of <CRLF>.<CRLF> when the content is empty: put it back.
    reader._buffer[:0] = b"\r\n"  # type: ignore[attr-defined]  # noqa: SLF001  (StreamReader has no unread)
    chunks: list[bytes] = []
    size = 0
    refusal: Reply | None = None
    ended = False
    while not ended:
        chunk, ended = await _chunk(reader)
        size += len(chunk)
        if refusal is None:
            refusal = _refusal(size > wire_most, not ended and not lease.take(len(chunk)), most)
        if refusal is None:
            chunks.append(chunk)
        elif size > 2 * wire_most:
            raise Goodbye.of(refusal)
        else:
            chunks.clear()
    if refusal is not None:
        raise Refused.of(refusal)
    return _unstuffed(b"".join(chunks), most)


async def _chunk(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """The next octets, and whether they end with the final dot."""
    try:
        return await reader.readuntil(_END), True
    except asyncio.LimitOverrunError as overrun:  # `consumed` octets hold no part of an end
        return await reader.readexactly(overrun.consumed), False


def _refusal(too_large: bool, no_room: bool, most: int) -> Reply | None:  # noqa: FBT001
    if too_large:
        return Reply(552, "5.3.4", f"Message larger than {most} octets")
    if no_room:
        return Reply(452, "4.3.1", "No room for a message of this size now")
    return None


def _unstuffed(wire: bytes, most: int) -> bytes:
    content = wire[:-3].replace(b"\r\n.", b"\r\n")[2:]
    if len(content) > most:
        raise Refused(552, "5.3.4", f"Message larger than {most} octets")
    return content


def canonical(content: bytes, *, bare: Literal["refuse", "normalise"]) -> bytes:
    """`content` with CRLF as its only line end, without NUL, in lines of at most `MAX_LINE`; raises Refused."""
    if b"\0" in content:
        raise Refused(550, "5.6.11", "NUL in content (RFC 5321 section 4.5.2)")
    pairs = content.count(b"\r\n")
    if content.count(b"\n") != pairs or content.count(b"\r") != pairs:
        if bare == "refuse":
            raise Refused(550, "5.6.11", "Bare CR or LF in content (RFC 5321 section 2.3.8)")
        content = _LINE_END.sub(b"\r\n", content)
    if _has_long_line(content):
        raise Refused(550, "5.6.0", f"Line longer than {MAX_LINE} octets")
    return content


def _has_long_line(content: bytes) -> bool:
    """Whether a line is over `MAX_LINE`: jumps from line end to line end, a window at a time."""
    start = 0
    while len(content) - start > MAX_LINE:
        end = content.rfind(b"\r\n", start, start + MAX_LINE + 2)
        if end < 0:
            return True
        start = end + 2
    return False
