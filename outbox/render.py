"""Turns a validated draft into the octets of a message (RFC 5322), CRLF throughout and safe for 7-bit transport.

Pure. The encoders are the standard library's; the assembly is ours, because `email.message.EmailMessage` takes 2 ms
for what takes 50 us here, and because it decodes and re-folds what it is given, which is how encoded CRLF in a
subject becomes a header line of its own. What was serialised is parsed again and compared with what was meant.
Bcc is no field of a draft, so it cannot reach a copy.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import starmap

from outbox.header_text import (
    Unrenderable,
    date_line,
    encode_field,
    encode_text,
    fold,
    is_one_line,
    mailbox,
    parameter,
)
from outbox.mime import Part, base64_body, multipart, text_body
from outbox.plain_text import from_html
from runtime.frozen import frozen

# RFC 5322 section 2.2: a name, and a value that goes on in lines which begin with a space.
_FIELD = re.compile(rb"[!-9;-~]+: [^\x00-\x1f\x7f]*(?:\r\n [^\x00-\x1f\x7f]*)*\r\n")
_LONGEST_LINE = 998  # RFC 5322 section 2.1.1


@frozen
class Mailbox:
    """A display name, perhaps empty, and an address whose domain is ASCII where it can be."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file beside the text; with a `content_id` the HTML may show it inline (RFC 2392)."""

    content: bytes
    filename: str = ""
    content_type: str = "application/octet-stream"
    content_id: str = ""


@frozen
class Draft:
    """All that a recipient may see, checked by the caller. `html` or `text` is there.

    Without `text` a text part is made from the HTML; an empty `text` opts out of one. Empty `html` is none.
    """

    sender: Mailbox
    to: tuple[Mailbox, ...]
    subject: str
    cc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    html: str | None = None
    text: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    tracked_html: str | None = None  # sent in place of `html`; the text part is made of that all the same


@frozen
class Rendered:
    """The octets, and what is to be known of them."""

    content: bytes
    smtputf8: bool  # the headers have a local part outside ASCII (RFC 6531)
    text_derived: bool  # the text part was made from the HTML


def render(draft: Draft, *, message_id: str, date: datetime) -> Rendered:
    """The message as octets. `message_id` is the header's value with its angle brackets.

    Raises:
        Unrenderable: the headers would not say what was meant.
    """
    derived = draft.text is None and bool(draft.html)
    text = from_html(draft.html or "") if derived else draft.text or ""
    body = _body(draft, text, seed=message_id.strip("<>").partition("@")[0])
    own = [(name, mailboxes_of(members)) for name, members in _receivers(draft) if members]
    head = [
        _alike("From", mailbox(draft.sender.name, draft.sender.address)),
        *starmap(_header, own),
        _subject(draft.subject),
        _header("Message-ID", message_id),
        date_line(date),
        *[_header(name, encode_field(name, value)) for name, value in draft.headers],
        _alike("MIME-Version", "1.0"),
        *starmap(_alike, body.headers),
    ]
    smtputf8 = not all(map(bytes.isascii, head))
    return Rendered(b"".join([*head, b"\r\n", body.octets]), smtputf8=smtputf8, text_derived=derived)


def _receivers(draft: Draft) -> tuple[tuple[str, tuple[Mailbox, ...]], ...]:
    return ("To", draft.to), ("Cc", draft.cc), ("Reply-To", draft.reply_to)


def _header(name: str, value: str) -> bytes:
    """One header with its line ends, read again: the name and the value that were meant, and nothing else.

    The only CR and LF are pairs that end a line, so no parser, however lenient, can see another header in it. One line
    of printable ASCII has none, and no way to be read as anything else.
    """
    if is_one_line(name, value):
        return f"{name}: {value}\r\n".encode()
    octets = f"{fold(name, value)}\r\n".encode()
    if not _FIELD.fullmatch(octets):
        raise Unrenderable("The headers cannot be written safely.")
    if len(octets) > _LONGEST_LINE and max(map(len, octets.split(b"\r\n"))) > _LONGEST_LINE:
        raise Unrenderable("A header has a word that is too long for a line.")
    if octets.replace(b"\r\n", b"").decode().partition(": ") != (name, ": ", value):
        raise Unrenderable("The headers cannot be written as they were meant.")
    return octets


_alike = lru_cache(maxsize=256)(_header)  # of what many mails have in common


@lru_cache(maxsize=64)
def _subject(text: str) -> bytes:
    return _header("Subject", encode_text(text))


def mailboxes_of(members: Iterable[Mailbox]) -> str:
    """The value of an address header."""
    return ", ".join([mailbox(m.name, m.address) for m in members])


def _body(draft: Draft, text: str, *, seed: str) -> Part:
    """The part tree: mixed(alternative(text, related(html, inline files)), other files), less what is not there."""
    inline = [a for a in draft.attachments if a.content_id and draft.html]
    beside = [a for a in draft.attachments if a not in inline]
    texts = []
    if text or not draft.html:
        texts.append(text_body("plain", text))
    if draft.html:  # an empty part would be the one that readers prefer
        html = text_body("html", draft.html if draft.tracked_html is None else draft.tracked_html)
        texts.append(multipart("related", [html, *map(_file, inline)], seed=f"{seed}r") if inline else html)
    body = texts[0] if len(texts) == 1 else multipart("alternative", texts, seed=f"{seed}a")
    return multipart("mixed", [body, *map(_file, beside)], seed=f"{seed}m") if beside else body


def _file(attachment: Attachment) -> Part:
    disposition = "inline" if attachment.content_id else "attachment"
    if attachment.filename:
        disposition += "; " + parameter("filename", attachment.filename)
    headers = [
        ("Content-Type", attachment.content_type),
        ("Content-Transfer-Encoding", "base64"),
        ("Content-Disposition", disposition),
    ]
    if attachment.content_id:
        headers.append(("Content-ID", f"<{attachment.content_id}>"))
    return Part(tuple(headers), base64_body(attachment.content))
