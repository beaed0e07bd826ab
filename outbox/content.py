"""Reads the texts and the files back out of stored octets, for those who ask what was sent. Pure; never raises."""

from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from email.policy import compat32
from itertools import islice
from typing import Literal

_MOST_PARTS = 200  # a message of more parts shows what is in the first ones
_MOST_FILES = 1000  # parts
_TEXTS = frozenset({"text/plain", "text/html"})
_BAD_MIME = (ValueError, LookupError, AttributeError, TypeError, RecursionError)  # what the email package can raise
_FRONT = 1024 * 1024  # the texts stand before the files, so mostly this much tells all; 40 MB take seconds to parse


@dataclass(frozen=True, slots=True)
class Parts:
    """What a reader would see, with plain newlines; None where there is no such part."""

    html: str | None = None
    text: str | None = None


def parts(raw: bytes) -> Parts:
    """The first HTML part and the first text part that are no attachments. Bad MIME gives what can be had of it."""
    try:
        if len(raw) > _FRONT:
            found, cut = _read(raw[:_FRONT])
            return _read(raw)[0] if cut else found
        return _read(raw)[0]
    except _BAD_MIME:
        return Parts()


@dataclass(frozen=True, slots=True)
class File:
    """A part that is no text of the message."""

    filename: str
    content_type: str
    content_id: str
    disposition: Literal["inline", "attachment"]
    content: bytes


def files(raw: bytes) -> tuple[File, ...]:
    """The files of a message in their order. Bad MIME gives what can be had of it."""
    try:
        found = islice(message_from_bytes(raw, policy=compat32).walk(), _MOST_FILES)
        return tuple(_file(part) for part in found if _is_file(part))
    except _BAD_MIME:
        return ()


def _is_file(part: "Message[str, str]") -> bool:
    return not part.is_multipart() and (part.get_content_type() not in _TEXTS or _attached(part))


def _file(part: "Message[str, str]") -> File:
    octets = part.get_payload(decode=True)
    return File(
        filename=part.get_filename() or "",
        content_type=part.get_content_type(),
        content_id=str(part.get("Content-ID", "")).strip().removeprefix("<").removesuffix(">"),
        disposition="inline" if part.get_content_disposition() == "inline" else "attachment",
        content=octets if isinstance(octets, bytes) else b"",
    )


def _read(raw: bytes) -> tuple[Parts, bool]:
    """The texts, and whether the octets end before the first file, so that a text may go on beyond them."""
    found: dict[str, str] = {}
    in_files = False
    for part in islice(message_from_bytes(raw, policy=compat32).walk(), _MOST_PARTS):
        kind = part.get_content_type()
        if part.is_multipart():
            continue
        in_files = _is_file(part)
        if not in_files and kind not in found:
            found[kind] = _text(part)
    return Parts(html=found.get("text/html"), text=found.get("text/plain")), not in_files


def _attached(part: "Message[str, str]") -> bool:
    return part.get_content_disposition() == "attachment" or part.get_filename() is not None


def _text(part: "Message[str, str]") -> str:
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)  # noqa: S101  (a text part is no multipart)
    charset = str(part.get_content_charset("utf-8"))
    try:
        text = octets.decode(charset, "replace")
    except LookupError:
        text = octets.decode("utf-8", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
