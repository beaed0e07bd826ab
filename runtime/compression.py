"""How what is kept for long is made small: Zstandard, at a fifth of the time that zlib takes for the same size.

What earlier versions wrote with zlib or gzip is still read.
"""

import threading
import zlib

import zstandard

_LEVEL = 1  # fast: archive and recorder must keep up with delivery
_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878 section 3.1.1
_ZLIB_OR_GZIP = 47  # window bits that tell zlib to look at the header


class _Tools(threading.local):
    """Making one costs more than using it on a message, and none may be used by two threads at once."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_tools = _Tools()


def compress(octets: bytes) -> bytes:
    """One Zstandard frame."""
    return _tools.compressor.compress(octets)


def is_compressed(octets: bytes) -> bool:
    """Whether it begins as a Zstandard frame does."""
    return octets.startswith(_MAGIC)


def decompress(octets: bytes) -> bytes:
    """The inverse. Raises ValueError for what is damaged or no such thing."""
    try:
        if is_compressed(octets):
            return _tools.decompressor.decompress(octets)
        return zlib.decompress(octets, _ZLIB_OR_GZIP)
    except (zstandard.ZstdError, zlib.error) as error:
        raise ValueError(f"cannot be decompressed: {error}") from error
