"""Work that comes with the call: accept claims it for a channel that waits, which spares a lone mail a round trip."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from outbox.message import Claim


@dataclass(frozen=True, slots=True)
class Call:
    """How a wait ended: with nothing, with a lane that has work ('' for any), or with work of it for a channel."""

    lane: str = ""
    channel: str = ""
    claims: Sequence[Claim] = ()


def words(packed: bytes) -> Iterator[bytes]:
    """What accept.lua packed, each word as its length, a colon and itself."""
    at = 0
    while at < len(packed):
        begin = packed.index(b":", at) + 1
        at = begin + int(packed[at : begin - 1])
        yield packed[begin:at]
