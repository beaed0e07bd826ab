"""The shared nouns: a message, its recipients, its deliveries, and the outcome of an attempt. Nobody changes them.

The content (RFC 5322 octets) travels beside the message, never inside it: it is large and seldom needed.
"""

from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from operator import itemgetter
from typing import Any, Literal, Self

import orjson

from outbox.states import State
from runtime.clock import from_ms, to_ms
from runtime.frozen import frozen

RecipientKind = Literal["to", "cc", "bcc", "envelope"]


def domain_of(address: str) -> str:
    """The domain of a forward-path, see `Recipient.domain`."""
    domain = address.rpartition("@")[2].lower()
    return domain if domain.isascii() else domain.encode("idna").decode()


@frozen
class Recipient:
    """A forward-path (RFC 5321 section 2.3.5) and the field that named it; `envelope` when SMTP gave it."""

    address: str
    kind: RecipientKind

    @property
    def domain(self) -> str:
        """The lower-case domain, as an A-label where it is internationalised: the name of its lane."""
        return domain_of(self.address)


@frozen
class Delivery:
    """The recipients of one message in one lane: the unit that is claimed, sent in one transaction and settled."""

    index: int
    lane: str
    recipients: tuple[int, ...]


@frozen
class Message:
    """What was accepted, less its content. `to`, `cc`, `bcc`, `reply_to` are as the client wrote them, for display."""

    id: str
    created_at: datetime
    via: Literal["http", "smtp"]
    key_id: str
    reverse_path: str
    recipients: tuple[Recipient, ...]
    sender: str
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: tuple[str, ...] = ()
    subject: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    message_id_header: str = ""
    scheduled_at: datetime | None = None
    size: int = 0
    text_derived: bool = False  # the text part was made from the html, and is not shown as the client's
    smtputf8: bool = False  # the envelope or the headers need RFC 6531
    from_domain: str = ""  # the domain of From as an A-label: whose DKIM keys sign
    blob: str = ""  # SHA-256 of a content that is too large for the queue and lies beside it (outbox/blobs.py)

    def deliveries(self) -> tuple[Delivery, ...]:
        """One delivery per recipient domain, in order of first appearance."""
        if len(self.recipients) == 1:  # which is nearly always so
            return (Delivery(0, self.recipients[0].domain, (0,)),)
        lanes: dict[str, list[int]] = {}
        for index, recipient in enumerate(self.recipients):
            lanes.setdefault(recipient.domain, []).append(index)
        return tuple([Delivery(k, lane, tuple(members)) for k, (lane, members) in enumerate(lanes.items())])

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: instants as milliseconds, recipients as [address, kind]."""
        return {
            "id": self.id,
            "created_at": to_ms(self.created_at),
            "via": self.via,
            "key_id": self.key_id,
            "reverse_path": self.reverse_path,
            "recipients": [(r.address, r.kind) for r in self.recipients],
            "sender": self.sender,
            "to": self.to,
            "cc": self.cc,
            "bcc": self.bcc,
            "reply_to": self.reply_to,
            "subject": self.subject,
            "tags": self.tags,
            "message_id_header": self.message_id_header,
            "scheduled_at": to_ms(self.scheduled_at) if self.scheduled_at else None,
            "size": self.size,
            "text_derived": self.text_derived,
            "smtputf8": self.smtputf8,
            "from_domain": self.from_domain,
            "blob": self.blob,
        }

    def to_json(self) -> bytes:
        """`to_dict` as bytes."""
        return orjson.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of `to_dict`; fields of a newer version are left aside."""
        try:
            return cls._read({**fields})
        except KeyError:  # an older version has fewer
            return cls._read({**_DEFAULTS, **fields})

    @classmethod
    def _read(cls, known: dict[str, Any]) -> Self:
        known["created_at"] = from_ms(known["created_at"])
        if known["scheduled_at"]:
            known["scheduled_at"] = from_ms(known["scheduled_at"])
        known["recipients"] = tuple([Recipient(address, kind) for address, kind in known["recipients"]])
        known["tags"] = tuple([tuple(tag) for tag in known["tags"]])
        for name in ("to", "cc", "bcc", "reply_to"):
            known[name] = tuple(known[name])
        return cls(*_in_order(known))  # by name, Python would compare each of these names with each of its own

    @classmethod
    def from_json(cls, raw: bytes | str) -> Self:
        """The inverse of `to_json`."""
        return cls.from_dict(orjson.loads(raw))


_in_order = itemgetter(*(field.name for field in fields(Message)))
_DEFAULTS = {field.name: field.default for field in fields(Message) if field.default is not MISSING}


@frozen
class Outcome:
    """How one attempt ended for one recipient. `state` is what the recipient moves to.

    `code` is the reply code (RFC 5321) or 0 if there was none; `status` the enhanced status code (RFC 3463).
    Receipts hold the fields in this order, events under these names.
    """

    recipient: int
    state: State
    code: int = 0
    status: str = ""
    text: str = ""

    @property
    def error(self) -> str:
        """A short, bounded word for grouping in the backlog; empty when delivered."""
        if self.state is State.DELIVERED:
            return ""
        return f"{self.code or '-'} {self.status} {self.text}"[:80].strip()


@frozen
class Attempt:
    """One try at one delivery: when, where, how long each step took, and an outcome per recipient."""

    started_at: datetime
    route: str  # mailbox | smarthost | mx | simulator
    outcomes: tuple[Outcome, ...]
    peer: str = ""  # host[address]:port of the next hop, as in a Postfix relay= log
    tls: str = ""  # protocol and cipher, empty for plaintext
    steps: tuple[tuple[str, float], ...] = ()  # (step, milliseconds waited): dns, connect, tls, mail, rcpt, data, dot
    complained: tuple[int, ...] = ()  # recipients that called it spam: the simulator's, right behind a delivery
    in_doubt: bool = False  # the final dot was sent and no reply came: the next hop may have it
    suppress: tuple[tuple[int, str], ...] = ()  # (recipient, why) whose address gets no mail from now on


@dataclass(slots=True)  # not frozen: each of its eleven fields would be set by a call of its own
class Claim:
    """A delivery under a lease. `token` fences: a settle with another token changes nothing."""

    message: Message
    content: bytes
    index: int
    lane: str
    recipients: tuple[int, ...]  # those still to be tried
    attempts: int  # earlier attempts that were settled
    token: int
    possible_duplicate: bool  # an earlier lease was lost, so the next hop may have it already
    suppressed: tuple[tuple[int, str], ...] = ()  # (recipient, why) of those on the suppression list
    delivery_id: str = field(init=False)  # `<message id>/<index>`: the member of lanes and leases
    key: str = field(init=False)  # the delivery under this fencing token: what journals know it by

    def __post_init__(self) -> None:
        self.delivery_id = f"{self.message.id}/{self.index}"
        self.key = f"{self.delivery_id}#{self.token}"
