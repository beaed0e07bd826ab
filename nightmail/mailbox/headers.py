"""What the mailbox reads of a message's header: a glance at each one, all of the one that is viewed."""

import email
import email.errors
import email.header
import email.policy
import re
from email.message import Message
from typing import Any, cast

from runtime.text import sound

_WANTED = re.compile(rb"^(message-id|subject):[ \t]*((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE | re.MULTILINE)
_FOLD = re.compile(r"\r?\n(?=[ \t])")


def glance(content: bytes) -> tuple[str, str]:
    """Message-ID and decoded Subject, empty where absent. Fast, because it runs for every message."""
    end = 0 if content.startswith(b"\r\n") else content.find(b"\r\n\r\n")
    found: dict[bytes, str] = {}
    for name, value in _WANTED.findall(content[: end if end >= 0 else len(content)]):
        found.setdefault(name.lower(), _FOLD.sub("", value.decode("utf-8", "replace")).strip())
    return found.get(b"message-id", ""), _decoded(found.get(b"subject", ""))


def _decoded(value: str) -> str:
    """RFC 2047 words decoded; as it came when they are broken."""
    if "=?" not in value:
        return value
    try:
        return sound(str(email.header.make_header(email.header.decode_header(value))))
    except (ValueError, LookupError, email.errors.MessageError):
        return value


def parsed(content: bytes) -> Message:
    """The message as a tree of parts. The old policy, because it takes broken mail where the new one raises."""
    return email.message_from_bytes(content, policy=email.policy.compat32)


def headers(message: Message) -> list[list[str]]:
    """[name, value] in order, values decoded."""
    return [[name, _decoded(_FOLD.sub("", str(value)))] for name, value in message.items()]


def parts(message: Message) -> list[dict[str, Any]]:
    """The leaves in order; `text` is given for text parts only."""
    return [_part(part) for part in message.walk() if not part.is_multipart()]


def _part(part: Message) -> dict[str, Any]:
    octets = cast("bytes", part.get_payload(decode=True)) or b""
    text = part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment"
    content_id = part.get("Content-ID")  # a Header where it has octets that are not ASCII
    return {
        "content_type": part.get_content_type(),
        "filename": _filename(part),
        "content_id": str(content_id) if content_id is not None else None,
        "size": len(octets),
        "text": _text(octets, part.get_content_charset() or "utf-8") if text else None,
    }


def _filename(part: Message) -> str | None:
    try:
        name = part.get_filename()
    except (LookupError, ValueError):  # its charset, as for `_text`
        return None
    return sound(name) if name is not None else None


def _text(octets: bytes, charset: str) -> str:
    try:
        return sound(octets.decode(charset, "replace"))
    except (LookupError, ValueError):  # no charset, or one such as IDNA that raises whatever it is asked
        return octets.decode("latin-1")
