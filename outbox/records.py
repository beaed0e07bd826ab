"""Records on disk: a length-prefixed, checksummed JSON header with a blob beside it. Journals and archives use them.

Layout, big-endian: header length (4), blob length (4), CRC-32 of header and blob (4), header, blob.
"""

import zlib
from collections.abc import Iterator
from struct import Struct
from typing import Any, BinaryIO

import orjson

_FRAME = Struct(">III")
_MOST = 256 * 1024 * 1024  # a longer record is damage, not data
MOST_BLOB = _MOST - 16 * 1024 * 1024  # of octets beside a header

Header = dict[str, Any]


class Damaged(Exception):
    """A record that is cut short or whose checksum is wrong; `offset` is where it starts."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"damaged record at byte {offset}")
        self.offset = offset


def encode(header: Header, blob: bytes = b"") -> bytes:
    """One record."""
    return front(header, blob) + blob


def front(header: Header, blob: bytes) -> bytes:
    """What stands in front of the blob in its record. Raises ValueError for one that nobody could read back."""
    head = orjson.dumps(header)
    if len(head) + len(blob) > _MOST:
        raise ValueError(f"a record of {len(head) + len(blob)} octets")
    return _FRAME.pack(len(head), len(blob), zlib.crc32(blob, zlib.crc32(head))) + head


def decode(stream: BinaryIO) -> Iterator[tuple[int, Header, bytes]]:
    """Records from here to the end as (offset, header, blob). Raises Damaged at a record that does not check out."""
    offset = stream.tell()
    while frame := stream.read(_FRAME.size):
        if len(frame) < _FRAME.size:
            raise Damaged(offset)
        head_size, blob_size, checksum = _FRAME.unpack(frame)
        if not head_size or head_size + blob_size > _MOST:  # after a power cut a file may end in zeros
            raise Damaged(offset)
        head, blob = stream.read(head_size), stream.read(blob_size)
        if len(blob) < blob_size or zlib.crc32(blob, zlib.crc32(head)) != checksum:
            raise Damaged(offset)
        yield offset, orjson.loads(head), blob
        offset += _FRAME.size + head_size + blob_size
