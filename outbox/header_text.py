"""Text in message headers: encoded words (RFC 2047), folding (RFC 5322 section 2.2.3), mailboxes, parameters. Pure.

Every function gives one logical line without CR or LF; `fold` alone adds line ends.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.charset import Charset
from email.utils import encode_rfc2231, format_datetime, quote
from functools import lru_cache

_LINE = 78  # RFC 5322 section 2.1.1: SHOULD
_CHUNK = 39  # octets in one encoded word: 52 as base64 and 12 of frame stay within RFC 2047 section 2, name included
_UTF8 = Charset("utf-8")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~ ]+")  # atoms and spaces: RFC 5322 section 3.2.3
_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322 section 2.2
_WORD = re.compile(r" *[^ ]+|[ ]+")  # a word with the spaces before it
_ENCODED = re.compile(r"=\?[^?]*\?[BbQq]\?[^?]*\?=")  # RFC 2047 section 2, and with spaces, as some read it
_STRUCTURED = re.compile(r"list-.*|references|in-reply-to", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Unrenderable(ValueError):
    """The header cannot be written so that it says what was meant. The text is fit for the client."""


def has_control(text: str) -> bool:
    """Whether `text` has a character that no header may carry: control, line separator, lone surrogate."""
    return _CONTROL.search(text) is not None


def date_line(moment: datetime) -> bytes:
    """The header Date (RFC 5322 section 3.3) with its line end, to the second, in UTC."""
    return _date_line(int(moment.timestamp()))


@lru_cache(maxsize=4)
def _date_line(second: int) -> bytes:
    """It costs more than the rest of a header, and serves all messages of its second."""
    return f"Date: {format_datetime(datetime.fromtimestamp(second, UTC))}\r\n".encode()


def _is_plain(text: str) -> bool:
    """Whether it is printable ASCII, spaces included."""
    return text.isascii() and text.isprintable()


def encode_text(text: str) -> str:
    """Unstructured header text. What looks like an encoded word is encoded, so it is shown as written.

    Raises:
        Unrenderable: a control character.
    """
    if _is_plain(text) and not _ENCODED.search(text):
        return text
    return _encoded_words(text)


def encode_field(name: str, text: str) -> str:
    """The value of a header that has no function of its own here. Addresses and ids of mail are no text to encode.

    Raises:
        Unrenderable: a control character.
    """
    return text if _STRUCTURED.fullmatch(name) and _is_plain(text) else encode_text(text)


def _refuse_control(text: str) -> None:
    if has_control(text):
        raise Unrenderable("A header has a control character.")


def _encoded_words(text: str) -> str:
    _refuse_control(text)
    return " ".join(_UTF8.header_encode(chunk) for chunk in _chunks(text))


def _chunks(text: str) -> Iterable[str]:
    """Cut `text` into pieces of at most `_CHUNK` octets of UTF-8, never inside a character."""
    start = size = 0
    for index, character in enumerate(text):
        width = len(character.encode())
        if size + width > _CHUNK:
            yield text[start:index]
            start, size = index, 0
        size += width
    yield text[start:]


def mailbox(name: str, address: str) -> str:
    """A mailbox (RFC 5322 section 3.4) with its display name, if there is one.

    Raises:
        Unrenderable: the name has a control character.
    """
    if not name:
        return address
    if not _is_plain(name) or "=?" in name:
        name = _encoded_words(name)
    elif not _PHRASE.fullmatch(name):
        name = f'"{quote(name)}"'
    return f"{name} <{address}>"


def parameter(name: str, value: str) -> str:
    """A parameter of a MIME header: quoted, or as RFC 2231 when it is not plain ASCII."""
    if _is_plain(value) and "=?" not in value:
        return f'{name}="{quote(value)}"'
    _refuse_control(value)
    return f"{name}*={encode_rfc2231(value, 'utf-8')}"


def is_one_line(name: str, value: str) -> bool:
    """Whether `fold` leaves this header as it is: printable ASCII that needs no other line."""
    return len(name) + len(": ") + len(value) <= _LINE and _is_plain(value) and _NAME.fullmatch(name) is not None


def fold(name: str, value: str) -> str:
    """`name: value` with line breaks before words so that lines stay within 78 where they can, without a final CRLF.

    Removing the CRLFs gives the value back exactly. The first word stays beside the name, since a first line holding
    the name alone reads as an empty header to some.

    Raises:
        Unrenderable: the name is none, or the value has a control character. This guards every header there is.
    """
    if not _is_plain(value):
        _refuse_control(value)
    if not _NAME.fullmatch(name):
        raise Unrenderable("A header has a name that is not allowed.")
    line = f"{name}: {value}"
    if len(line) <= _LINE:
        return line
    first, *words = _WORD.findall(value)
    lines = []
    line = f"{name}: {first}"
    for word in words:
        if len(line) + len(word) > _LINE and word.strip():
            lines.append(line)
            line = word
        else:
            line += word
    return "\r\n".join([*lines, line])
