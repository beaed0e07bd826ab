"""How a content lies in the queue: compressed, where that saves something, because the queue is memory.

Nothing marks it but its first octets: those of a Zstandard frame begin no message, whose first octet begins a field
name or a line end (RFC 5322 section 2.2), and whose second is ASCII.
"""

from typing import overload

from runtime.compression import compress, decompress, is_compressed

_WORTH = 512  # octets: less of it saves less than it costs
_WORTH_WITH_ROOM = 8192  # octets: of less, the time is worth more than the memory while there is plenty


def packed(content: bytes, *, has_room: bool = False) -> bytes:
    """What the queue gets, and `has_room` for."""
    if len(content) < (_WORTH_WITH_ROOM if has_room else _WORTH) or is_compressed(content):
        return unshrunk(content)
    small = compress(content)
    return small if len(small) < len(content) else content


def unshrunk(content: bytes) -> bytes:
    """What `unpacked` takes for this content, where nobody needs it small."""
    return compress(content) if is_compressed(content) else content  # a message cannot be, but what goes in comes out


def frame(octets: bytes) -> bytes:
    """One Zstandard frame of a content that lies as in the queue."""
    return octets if is_compressed(octets) else compress(octets)


@overload
def unpacked(octets: bytes) -> bytes: ...
@overload
def unpacked(octets: None) -> None: ...
def unpacked(octets: bytes | None) -> bytes | None:
    """The content; None where the queue has none. Raises ValueError for what is damaged."""
    return decompress(octets) if octets and is_compressed(octets) else octets
