"""From octets and envelope to a message: the MIME stays as it came, octet for octet. Pure.

Only the header block is read, bounded in size and count; the body is never parsed. Bcc and the idempotency key are
taken out, a missing Message-ID or Date is put in front (RFC 6409 section 8), nothing else is touched, and no Received
is added: the client's network is nobody's business.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import NamedTuple

from outbox.message import Message, Recipient
from smtp.display import mailboxes, shown, unfolded
from smtp.paths import domain_of
from smtp.replies import Refused

MAX_HEADER = 131_072  # octets of the header block
MAX_FIELDS = 1_000
MAX_IDEMPOTENCY_KEY = 256  # characters, as by HTTP
MAX_FROM = 10  # mailboxes in From, all of which are checked
MAX_SHOWN = 200  # members of To, Cc, Reply-To kept for display; the envelope decides who gets the mail

# A field with its continuation lines; white space before the colon is obsolete but legal (RFC 5322 section 4.5).
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)")

_KEY = b"resend-idempotency-key"
_REMOVED = frozenset({b"bcc", b"resent-bcc", _KEY})
_UNSTABLE = frozenset({b"date", b"message-id"})  # a client that renders again for a retry makes these anew
_SINGLE = {b"from": "From", _KEY: "Resend-Idempotency-Key"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What MAIL and RCPT said. `reverse_path` is '' when it is null."""

    reverse_path: str
    recipients: tuple[str, ...]
    smtputf8: bool = False


class Field(NamedTuple):
    """One header field: lower-case name, raw value, and its octets."""

    name: bytes
    value: bytes
    octets: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """Content that was read: as it came, the header fields that stay, and what was learnt from the header."""

    content: bytes
    body_at: int  # where the header ends and the empty line begins
    fields: tuple[Field, ...]
    is_intact: bool  # no field was taken out
    from_domains: tuple[str, ...]
    idempotency_key: str

    def value(self, name: bytes) -> bytes | None:
        """The raw value of the first field of that name."""
        return next((field.value for field in self.fields if field.name == name), None)

    def values(self, name: bytes) -> str:
        """The unfolded values of all fields of that name, as one list."""
        return ", ".join(unfolded(field.value) for field in self.fields if field.name == name)


def read(content: bytes) -> Draft:
    """Read the header of canonical `content`; raises Refused when it is not a message we may send on."""
    body_at = _header_end(content)
    fields = _fields(content, body_at)
    _check_single(fields)
    kept = tuple(field for field in fields if field.name not in _REMOVED)
    return Draft(
        content=content,
        body_at=body_at,
        fields=kept,
        is_intact=len(kept) == len(fields),
        from_domains=_from_domains(fields),
        idempotency_key=_idempotency_key(fields),
    )


def _header_end(content: bytes) -> int:
    """Length of the header block with its last CRLF; what follows is the empty line and the body, or nothing."""
    if content.startswith(b"\r\n"):
        return 0
    end = content.find(b"\r\n\r\n", 0, MAX_HEADER + 4)
    if end < 0 and len(content) > MAX_HEADER:
        raise Refused(554, "5.6.0", f"Header larger than {MAX_HEADER} octets")
    return len(content) if end < 0 else end + 2


def _fields(content: bytes, header_end: int) -> list[Field]:
    fields: list[Field] = []
    at = 0
    while at < header_end:
        found = _FIELD.match(content, at, header_end)
        if not found:  # readers differ in what they make of such a line: a Bcc after it might be seen by one of them
            raise Refused(550, "5.6.0", "Malformed header line (RFC 5322 section 2.2)")
        if len(fields) == MAX_FIELDS:
            raise Refused(554, "5.6.0", f"More than {MAX_FIELDS} header fields")
        fields.append(Field(found[1].lower(), found[2], found[0]))
        at = found.end()
    return fields


def _check_single(fields: list[Field]) -> None:
    """RFC 5322 section 3.6: two From fields are how a reader is shown another sender than the one that was checked."""
    seen: set[bytes] = set()
    for field in fields:
        if field.name in _SINGLE and field.name in seen:
            raise Refused(550, "5.6.0", f"More than one {_SINGLE[field.name]} header")
        seen.add(field.name)
    if b"from" not in seen:
        raise Refused(550, "5.6.0", "No From header")


def _from_domains(fields: list[Field]) -> tuple[str, ...]:
    value = next(unfolded(field.value) for field in fields if field.name == b"from")
    members = mailboxes(value, most=MAX_FROM + 1)
    try:
        domains = [domain_of(mailbox.address) for mailbox in members]
    except ValueError:
        domains = []
    if not domains or len(domains) > MAX_FROM:
        raise Refused(550, "5.6.0", "From header is not an email address")
    return tuple(dict.fromkeys(domains))


def _idempotency_key(fields: list[Field]) -> str:
    raw = next((field.value for field in fields if field.name == _KEY), None)
    if raw is None:
        return ""
    key = shown(unfolded(raw))
    if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY:
        raise Refused(550, "5.6.0", f"Resend-Idempotency-Key takes 1 to {MAX_IDEMPOTENCY_KEY} characters")
    return key


def fingerprint(envelope: Envelope, draft: Draft) -> str:
    """SHA-256 over envelope and content, less Date and Message-ID: the same for a message that is sent again."""
    digest = hashlib.sha256()
    for address in (envelope.reverse_path, *envelope.recipients):
        digest.update(address.encode() + b"\0")
    for field in draft.fields:
        if field.name not in _UNSTABLE:
            digest.update(field.octets)
    digest.update(memoryview(draft.content)[draft.body_at :])
    return digest.hexdigest()


def compose(
    draft: Draft, envelope: Envelope, *, message_id: str, key_id: str, now: datetime, hostname: str
) -> tuple[Message, bytes]:
    """The message and the content to be sent."""
    added, header_id = _additions(draft, now=now, made_id=f"<{message_id}@{hostname}>")
    content = _content(draft, added)
    sender = draft.value(b"from") or b""
    message = Message(
        id=message_id,
        created_at=now,
        via="smtp",
        key_id=key_id,
        reverse_path=envelope.reverse_path,
        recipients=tuple(Recipient(address, "envelope") for address in envelope.recipients),
        sender=shown(unfolded(sender)),
        to=_shown_list(draft, b"to"),
        cc=_shown_list(draft, b"cc"),
        reply_to=_shown_list(draft, b"reply-to"),
        subject=shown(unfolded(draft.value(b"subject") or b"")),
        message_id_header=header_id,
        from_domain=draft.from_domains[0],
        size=len(content),
        smtputf8=envelope.smtputf8 and _needs_smtputf8(draft, envelope),
    )
    return message, content


def _additions(draft: Draft, *, now: datetime, made_id: str) -> tuple[bytes, str]:
    """The lines to put in front, and the Message-ID in force."""
    added = b""
    header_id = draft.value(b"message-id")
    if header_id is None:
        added += f"Message-ID: {made_id}\r\n".encode()
    if draft.value(b"date") is None:
        added += f"Date: {format_datetime(now)}\r\n".encode()
    return added, made_id if header_id is None else unfolded(header_id)


def _content(draft: Draft, added: bytes) -> bytes:
    if draft.is_intact:
        return added + draft.content if added else draft.content
    kept = (field.octets for field in draft.fields)
    return b"".join([added, *kept, memoryview(draft.content)[draft.body_at :]])


def _shown_list(draft: Draft, name: bytes) -> tuple[str, ...]:
    return tuple(mailbox.text for mailbox in mailboxes(draft.values(name), most=MAX_SHOWN))


def _needs_smtputf8(draft: Draft, envelope: Envelope) -> bool:
    """Whether what the client asked SMTPUTF8 for is really there; if not, any next hop will do."""
    addresses = (envelope.reverse_path, *envelope.recipients)
    return not (all(map(str.isascii, addresses)) and all(field.octets.isascii() for field in draft.fields))
