"""Work that comes with the call: accept claims it for a channel that waits, which spares a lone mail a round trip."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from outbox.message import Claim


@dataclass(frozen=True, slots=True)
class Call:
    """How a wait ended: with nothing, with a lane that has work ('' for any), or with work of it for a channel."""

    lane: str = ""
    channel: str = ""
    claims: Sequence[Claim] = ()


def unpacked_call(packed: bytes) -> tuple[str, list[list[bytes]]]:
    """The lane, and the rows of the claims, each behind its content, as accept.lua packed them."""
    words = _words(packed)
    lane = next(words).decode()
    return lane, [list(islice(words, int(number))) for number in words]


def _words(packed: bytes) -> Iterator[bytes]:
    """Each is written as its length, a colon and itself."""
    at = 0
    while at < len(packed):
        begin = packed.index(b":", at) + 1
        at = begin + int(packed[at : begin - 1])
        yield packed[begin:at]
