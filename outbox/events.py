"""What happened, as facts in the past tense. The history is a view of these; nothing else is ever written to it.

An event is a JSON object with `kind`, `at` (ms), `id` (the message) and the fields of its kind, one function each.
Its number is its place in the stream: numbers are consecutive from 1, so that a gap shows. They jump in one place only:
at a `rebuilt` event, which says from where (docs/decisions/0013-a-queue-that-lost-its-memory.md).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from outbox.message import Message
from outbox.receipt import Receipt
from outbox.tracking import Tracked
from runtime.clock import to_ms

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """An event as read back: its number and its fields."""

    number: int
    fields: Fields

    @property
    def kind(self) -> str:
        """The kind, one of the function names below."""
        return str(self.fields.get("kind", ""))

    def follows(self, after: int) -> bool:
        """Whether it may be read after event `after`: as the next one, or over the seam that a rebuild left."""
        if self.number == after + 1:
            return True
        return self.kind == "rebuilt" and int(self.fields["after"]) <= after < self.number


def _encode(kind: str, at: datetime, message_id: str, **fields: Any) -> bytes:
    return orjson.dumps({"kind": kind, "at": to_ms(at), "id": message_id, **fields})


def accepted(message: Message) -> bytes:
    """The message is ours now; carries all of it but the content. accept.lua writes the same octets."""
    return _encode("accepted", message.created_at, message.id, message=orjson.Fragment(message.to_json()))


def attempted(receipt: Receipt, *, worker: str) -> bytes:
    """One attempt was settled; carries an outcome per recipient, the peer, TLS and the time of each step."""
    told = receipt.header
    event = {
        "kind": "attempted",
        "at": told["ended_at"],
        "id": told["id"],
        "delivery": told["delivery"],
        "lane": told["lane"],
        "number": told["attempts"] + 1,
        "worker": worker,
        "started_at": told["started_at"],
        "route": told["route"],
        "peer": told["peer"],
        "tls": told["tls"],
        "steps": dict(told["steps"]),
        "possible_duplicate": told["possible_duplicate"],
        "in_doubt": told["in_doubt"],
        "next_attempt_at": told["next_attempt_at"],
        "outcomes": [  # orjson takes twice as long for the objects that these words are read from
            {"recipient": recipient, "state": state, "code": code, "status": status, "text": text}
            for recipient, state, code, status, text in told["outcomes"]
        ],
    }
    return orjson.dumps(event)


def complained(message_id: str, recipients: tuple[int, ...], *, at: datetime) -> bytes:
    """Recipients marked the mail as spam."""
    return _encode("complained", at, message_id, recipients=recipients)


def opened(tracked: Tracked, *, at: datetime, user_agent: str) -> bytes:
    """Somebody's program showed the message, images included: a person, or a proxy that fetches them beforehand."""
    return _encode("opened", at, tracked.message_id, created_at=to_ms(tracked.created_at), user_agent=user_agent)


def clicked(tracked: Tracked, link: str, *, at: datetime, ip_address: str, user_agent: str) -> bytes:
    """Somebody followed a link of the message: one of its recipients, a filter, or whoever got it passed on."""
    return _encode(
        "clicked",
        at,
        tracked.message_id,
        created_at=to_ms(tracked.created_at),
        link=link,
        ip_address=ip_address,
        user_agent=user_agent,
    )


def rescheduled(message_id: str, scheduled_at: datetime, *, at: datetime) -> bytes:
    """The client moved a scheduled message."""
    return _encode("rescheduled", at, message_id, scheduled_at=to_ms(scheduled_at))


def cancelled(message_id: str, *, at: datetime) -> bytes:
    """The client cancelled the message before any attempt was under way."""
    return _encode("cancelled", at, message_id)


def policy_changed(kind: str, name: str, value: Fields | None, *, at: datetime, **more: Any) -> bytes:
    """A policy object (API key, domain, ...) was set, or removed when `value` is None. Holds no secret.

    Of a domain it also says whether it is `made` by this; of what is removed, what it `was`.
    """
    return _encode("policy_changed", at, "", object=kind, name=name, value=value, **more)


def rebuilt(after: int, generation: str, *, at: datetime) -> bytes:
    """The queue was filled again. Events up to `after` stand; what followed them is told again after this one."""
    return _encode("rebuilt", at, "", after=after, generation=generation)


# Events about leases are written by the scripts, which know whose leases were lost (`note` in lua/_prelude.lua):
#   {"kind": "released", "at", "id", "delivery", "recipients", "reason", "possible_duplicate"}: for shutdown,
#   never_begun, lease_lost or rebuilt (the last is outbox/restoring.py's)
#   {"kind": "held", "at", "id", "delivery", "recipients", "reason": "leases_lost", "possible_duplicate"}
#   {"kind": "redriven", "at", "id", "delivery"}
