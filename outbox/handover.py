"""Work that comes with the call: accept claims it for a channel that waits, which spares a lone mail a round trip."""

from collections.abc import Sequence
from dataclasses import dataclass

from outbox.message import Claim


@dataclass(frozen=True, slots=True)
class Call:
    """How a wait ended: with nothing, with a lane that has work ('' for any), or with work of it for a channel."""

    lane: str = ""
    channel: str = ""
    claims: Sequence[Claim] = ()


def unpacked_call(packed: bytes) -> tuple[str, list[list[bytes]]]:
    """The lane, and the rows of the claims, each behind its content, as accept.lua packed them.

    The lengths of all words come first; each row begins with the number of its words.
    """
    lengths, _, octets = packed.partition(b";")
    words, at = [], 0
    for length in map(int, lengths.split(b",")):
        words.append(octets[at : at + length])
        at += length
    lane, rows, at = words[0].decode(), [], 1
    while at < len(words):
        end = at + 1 + int(words[at])
        rows.append(words[at + 1 : end])
        at = end
    return lane, rows
