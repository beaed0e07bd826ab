"""From octets and envelope to a message: the MIME stays as it came, octet for octet. Pure.

Only the header block is read, bounded in size and count; the body is never parsed. Bcc and the idempotency key are
taken out, a missing Message-ID or Date is put in front (RFC 6409 section 8), nothing else is touched, and no Received
is added: the client's network is nobody's business.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from outbox.header_text import date_line
from outbox.message import Message, Recipient
from runtime.frozen import frozen
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


@frozen
class Envelope:
    """What MAIL and RCPT said. `reverse_path` is '' when it is null."""

    reverse_path: str
    recipients: tuple[str, ...]
    smtputf8: bool = False


Field = tuple[bytes, bytes, bytes]
"""One header field: lower-case name, raw value, and its octets."""


@frozen
class Draft:
    """Content that was read: as it came, the header fields that stay, and what was learnt from the header."""

    content: bytes
    body_at: int  # where the header ends and the empty line begins
    fields: Sequence[Field]
    values: Mapping[bytes, Sequence[bytes]]  # the raw values by name, in order
    is_intact: bool  # no field was taken out
    from_domains: tuple[str, ...]
    idempotency_key: str

    def text(self, name: bytes) -> str:
        """The unfolded value of the first field of that name; empty where there is none."""
        values = self.values.get(name)
        return unfolded(values[0]) if values else ""


def read(content: bytes) -> Draft:
    """Read the header of canonical `content`; raises Refused when it is not a message we may send on."""
    body_at = _header_end(content)
    fields = _fields(content, body_at)
    values: dict[bytes, list[bytes]] = {}
    for name, value, _ in fields:
        values.setdefault(name, []).append(value)
    _check_single(values)
    is_intact = _REMOVED.isdisjoint(values)
    return Draft(
        content=content,
        body_at=body_at,
        fields=fields if is_intact else [field for field in fields if field[0] not in _REMOVED],
        values=values,
        is_intact=is_intact,
        from_domains=_from_domains(values[b"from"][0]),
        idempotency_key=_idempotency_key(values[_KEY][0]) if _KEY in values else "",
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
        name, value = found.groups()
        fields.append((name.lower(), value, found[0]))
        at = found.end()
    return fields


def _check_single(values: Mapping[bytes, Sequence[bytes]]) -> None:
    """RFC 5322 section 3.6: two From fields are how a reader is shown another sender than the one that was checked."""
    for name, title in _SINGLE.items():
        if len(values.get(name, ())) > 1:
            raise Refused(550, "5.6.0", f"More than one {title} header")
    if b"from" not in values:
        raise Refused(550, "5.6.0", "No From header")


def _from_domains(value: bytes) -> tuple[str, ...]:
    members = mailboxes(unfolded(value), most=MAX_FROM + 1)
    try:
        domains = [domain_of(mailbox.address) for mailbox in members]
    except ValueError:
        domains = []
    if not domains or len(domains) > MAX_FROM:
        raise Refused(550, "5.6.0", "From header is not an email address")
    return tuple(dict.fromkeys(domains))


def _idempotency_key(value: bytes) -> str:
    key = shown(unfolded(value))
    if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY:
        raise Refused(550, "5.6.0", f"Resend-Idempotency-Key takes 1 to {MAX_IDEMPOTENCY_KEY} characters")
    return key


def fingerprint(envelope: Envelope, draft: Draft) -> str:
    """SHA-256 over envelope and content, less Date and Message-ID: the same for a message that is sent again."""
    digest = hashlib.sha256()
    for address in (envelope.reverse_path, *envelope.recipients):
        digest.update(address.encode() + b"\0")
    for name, _, octets in draft.fields:
        if name not in _UNSTABLE:
            digest.update(octets)
    digest.update(memoryview(draft.content)[draft.body_at :])
    return digest.hexdigest()


def compose(
    draft: Draft, envelope: Envelope, *, message_id: str, key_id: str, now: datetime, hostname: str
) -> tuple[Message, bytes]:
    """The message and the content to be sent."""
    added, header_id = _additions(draft, now=now, made_id=f"<{message_id}@{hostname}>")
    content = _content(draft, added)
    message = Message(
        id=message_id,
        created_at=now,
        via="smtp",
        key_id=key_id,
        reverse_path=envelope.reverse_path,
        recipients=tuple([Recipient(address, "envelope") for address in envelope.recipients]),
        sender=shown(draft.text(b"from")),
        to=_shown_list(draft, b"to"),
        cc=_shown_list(draft, b"cc"),
        reply_to=_shown_list(draft, b"reply-to"),
        subject=shown(draft.text(b"subject")),
        message_id_header=header_id,
        from_domain=draft.from_domains[0],
        size=len(content),
        smtputf8=envelope.smtputf8 and _needs_smtputf8(draft, envelope),
    )
    return message, content


def _additions(draft: Draft, *, now: datetime, made_id: str) -> tuple[bytes, str]:
    """The lines to put in front, and the Message-ID in force."""
    header_id, added = draft.text(b"message-id"), b""
    if b"message-id" not in draft.values:
        header_id, added = made_id, f"Message-ID: {made_id}\r\n".encode()
    if b"date" not in draft.values:
        added += date_line(now)
    return added, header_id


def _content(draft: Draft, added: bytes) -> bytes:
    if draft.is_intact:
        return added + draft.content if added else draft.content
    kept = [octets for _, _, octets in draft.fields]
    return b"".join([added, *kept, memoryview(draft.content)[draft.body_at :]])


def _shown_list(draft: Draft, name: bytes) -> tuple[str, ...]:
    values = draft.values.get(name)
    if not values:
        return ()
    members = mailboxes(", ".join(map(unfolded, values)), most=MAX_SHOWN)
    return tuple([mailbox.text for mailbox in members])


def _needs_smtputf8(draft: Draft, envelope: Envelope) -> bool:
    """Whether what the client asked SMTPUTF8 for is really there; if not, any next hop will do."""
    addresses = (envelope.reverse_path, *envelope.recipients)
    return not (all(map(str.isascii, addresses)) and all(octets.isascii() for _, _, octets in draft.fields))
