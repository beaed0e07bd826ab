"""Parts of a MIME body (RFC 2045, 2046): text, files, multiparts. Pure, CRLF throughout, every octet 7-bit."""

from binascii import b2a_base64, b2a_qp
from collections.abc import Sequence

from outbox.header_text import fold
from runtime.frozen import frozen

_COLUMN = 76  # RFC 2045 section 6.8
_LONGEST_LINE = 998  # RFC 5322 section 2.1.1
_PLAIN = b"\t\n" + bytes(range(0x20, 0x7F))
_ONLY_PLAIN = bytes([octet if octet in _PLAIN else ord("?") for octet in range(256)])
_ASCII = bytes(range(128))
_SHORT = 16 * 1024  # characters of a text that may be kept
_SLICE = 57 * 1024  # octets encoded at a time: whole lines of base64


@frozen
class Part:
    """A body part: its MIME headers, one logical line each, and its encoded octets, without a final line end."""

    headers: tuple[tuple[str, str], ...]
    octets: bytes


def text_body(subtype: str, text: str) -> Part:
    """A text part. Plain ASCII goes as it is; quoted-printable for mostly ASCII; base64 for the rest."""
    kept = _latest.get(subtype)
    if kept is not None and kept[0] == text:
        return kept[1]
    part = _text(subtype, text)
    if len(text) <= _SHORT:
        _latest[subtype] = text, part
    return part


# The latest text of each subtype, and what was made of it: the mails of a batch often say the same to everybody. Where
# they do not, to compare costs next to nothing; a cache would first have to read the whole text for its hash.
_latest: dict[str, tuple[str, Part]] = {}


def _text(subtype: str, text: str) -> Part:
    if "\r" in text:  # a look for one character costs next to nothing, one for two is long
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    encoding, octets = _encode(text.encode("utf-8", "replace"))
    headers = (("Content-Type", f"text/{subtype}; charset=utf-8"), ("Content-Transfer-Encoding", encoding))
    return Part(headers, octets)


def _encode(octets: bytes) -> tuple[str, bytes]:
    if octets.translate(_ONLY_PLAIN) == octets and not _may_be_boundary(octets) and not _has_long_line(octets):
        return "7bit", octets.replace(b"\n", b"\r\n")
    if len(octets.translate(None, _ASCII)) * 6 <= len(octets):
        return "quoted-printable", b2a_qp(octets, istext=True).replace(b"\n", b"\r\n")
    return "base64", base64_body(octets.replace(b"\n", b"\r\n"))


def _may_be_boundary(octets: bytes) -> bool:
    """Whether it holds what begins every boundary of ours; quoted-printable and base64 never do."""
    return b"=" in octets and b"=_" in octets  # the look for one octet is the short one


def _has_long_line(octets: bytes) -> bool:
    """From the start of a line to the last one that begins within reach of it, and so on: few steps, no copies."""
    start = 0
    while len(octets) - start > _LONGEST_LINE:
        start = octets.rfind(b"\n", start, start + _LONGEST_LINE + 1) + 1
        if start == 0:
            return True
    return False


def base64_body(octets: bytes) -> bytes:
    """Base64 in lines of 76, without a final line end."""
    slices = []
    for start in range(0, len(octets), _SLICE):
        block = b2a_base64(octets[start : start + _SLICE], newline=False)
        slices.append(b"\r\n".join([block[at : at + _COLUMN] for at in range(0, len(block), _COLUMN)]))
    return b"\r\n".join(slices)


def multipart(subtype: str, parts: Sequence[Part], *, seed: str) -> Part:
    """A multipart around `parts`. `seed` is unlike that of any multipart within it."""
    boundary = f"=_{seed}"
    delimiter = f"--{boundary}\r\n".encode()
    pieces: list[bytes] = []  # joined once: parts may be large, and copying them stops other threads
    for part in parts:
        pieces += [delimiter, _headers(part), b"\r\n", part.octets, b"\r\n"]
    pieces.append(f"--{boundary}--".encode())
    header = ("Content-Type", f'multipart/{subtype}; boundary="{boundary}"')
    return Part((header,), b"".join(pieces))


def _headers(part: Part) -> bytes:
    return "\r\n".join([*[fold(name, value) for name, value in part.headers], ""]).encode()
