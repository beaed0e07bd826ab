"""Files of a message: their three wire forms, their names and types, and what no mail provider lets through."""

import re
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Iterator, Sequence
from mimetypes import guess_type
from pathlib import PurePosixPath
from typing import Any

from api.errors import ApiError, invalid
from api.request import AttachmentRequest
from outbox.header_text import has_control
from outbox.render import Attachment

_MOST = 500
_SLICE = 64 * 1024  # characters of base64 decoded at once: a third of a millisecond
_LONGEST_NAME = 255  # octets: percent-encoded, a line of 998 still holds it (RFC 2231)
_TYPE = re.compile(r'[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+(?:; ?[a-z0-9-]+=(?:[\w.+-]+|"[\w .+/-]*"))*', re.IGNORECASE)
_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,127}")
_UNKNOWN = "application/octet-stream"

# What Gmail, Outlook and SES refuse: programs, scripts, shortcuts, databases with code in them.
_BLOCKED = (
    "ade adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib "
    "lnk mad maf mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml "
    "msh2xml msi msp mst ops pcd pif plg prf prg reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp "
    "url vb vbe vbs vps vsmacros vss vst vsw vxd ws wsc wsf wsh xnk"
)
BLOCKED = frozenset(f".{name}" for name in _BLOCKED.split())


def read_all(files: Sequence[AttachmentRequest] | None) -> tuple[Attachment, ...]:
    """The files of a message. Raises ApiError 422 for the first that cannot be sent."""
    if not files:
        return ()
    if len(files) > _MOST:
        raise _refusal(f"There are more than {_MOST}.")
    return tuple(map(_read, files))


def _read(file: AttachmentRequest) -> Attachment:
    filename = _name(file.filename or "")
    return Attachment(
        content=_content(file),
        filename=filename,
        content_type=_type(file.content_type, filename),
        content_id=_content_id(file.content_id),
    )


def _content(file: AttachmentRequest) -> bytes:
    if file.content is None or file.content == "":
        raise ApiError(422, "invalid_attachment", "Attachment must have either a `content` or `path`.")
    try:
        return _octets(file.content)
    except (NotBase64, ValueError, TypeError) as wrong:
        raise _refusal("`content` must be base64, an array of integers from 0 to 255, or a Buffer.") from wrong


def _octets(content: Any) -> bytes:
    if isinstance(content, bytes):  # fetched (api/fetching.py); JSON has none
        return content
    if isinstance(content, dict) and content.get("type") == "Buffer":
        content = content.get("data")
    if isinstance(content, list):
        return bytes(content)
    if not isinstance(content, str):
        raise TypeError
    return b"".join(_decoded(content))


def _decoded(text: str) -> Iterator[bytes]:
    """Base64 with white space anywhere, a slice at a time: decoding 25 MB at once would stop everybody."""
    left = ""
    for start in range(0, len(text), _SLICE):
        left += "".join(text[start : start + _SLICE].split())
        whole = len(left) - (len(left) % 4 or 4)  # the last group may be the end, and stays for the next round
        if left[:whole].endswith("="):
            raise NotBase64("something follows the end")
        yield a2b_base64(left[:whole], strict_mode=True)
        left = left[whole:]
    yield a2b_base64(left, strict_mode=True)


def _name(filename: str) -> str:
    name = PurePosixPath(filename.strip().replace("\\", "/")).name
    if has_control(name) or len(name.encode("utf-8", "replace")) > _LONGEST_NAME:
        raise _refusal("`filename` has a control character or is too long.")
    suffix = PurePosixPath(name.rstrip(". ")).suffix.lower()
    if suffix in BLOCKED:
        raise _refusal(f"Files of type `{suffix}` cannot be sent.")
    return name


def _type(given: str | None, filename: str) -> str:
    kind = given or _guessed(filename)
    if not _TYPE.fullmatch(kind) or not kind.isascii() or len(kind) > _LONGEST_NAME:
        raise _refusal("`content_type` must look like `image/png`.")
    # RFC 2046 sections 5.1 and 5.2.1 forbid base64 for these; as a plain file they can travel.
    return _UNKNOWN if kind.lower().startswith(("multipart/", "message/")) else kind


def _guessed(filename: str) -> str:
    """By its name. Of a packed file the guess is what comes out of it, which is not what is sent."""
    kind, packed = guess_type(filename)
    if packed:
        return "application/gzip" if packed == "gzip" else _UNKNOWN
    return kind or _UNKNOWN


def _content_id(given: str | None) -> str:
    if not given:
        return ""
    bare = given.removeprefix("<").removesuffix(">")
    if not _ID.fullmatch(bare):
        raise _refusal("`content_id` must have less than 128 letters, digits or signs, and no space.")
    return bare


def _refusal(message: str) -> ApiError:
    return invalid(f"Invalid `attachments` field. {message}")
