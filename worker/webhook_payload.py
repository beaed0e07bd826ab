"""From an event of ours to the messages that webhooks get of it, in Resend's form: one for each recipient. Pure.

Opens and clicks are one message each, to all recipients: they got the same octets, so nobody can tell whose it is.

`sent` is told when the mail is ours and will be tried; of scheduled mail `scheduled` is told then, and `sent` with the
first attempt. A message's id follows from what it tells, so an event that is told again makes the same message.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson

from outbox import domain_store, suppression
from outbox.bounces import bounce_of
from outbox.events import Event, Fields
from outbox.message import Message
from outbox.sender_domain import Hosts, SenderDomain
from outbox.states import State
from outbox.suppression import Origin
from outbox.webhook_queue import Payload
from runtime.clock import from_ms, iso

_NEEDS_MESSAGE = frozenset({"attempted", "complained", "held", "opened", "clicked"})
_WORDS = {
    State.DELIVERED: "email.delivered",
    State.DEFERRED: "email.delivery_delayed",
    State.FAILED: "email.bounced",
    State.SUPPRESSED: "email.suppressed",
}
_WHY = re.compile(r"\((\w+)\)$")
_REASONS = {Origin.BOUNCE: "previous_bounce", Origin.COMPLAINT: "previous_complaint", Origin.MANUAL: "manual"}

Told = tuple[str, int | None, Fields]  # type, recipient (None: one of them, nobody knows which), what the type adds


def needs_message(event: Event) -> bool:
    """Whether the message must be known to tell the event."""
    return event.kind in _NEEDS_MESSAGE


def payloads(event: Event, message: Message | None, hosts: Hosts) -> list[Payload]:
    """What webhooks get of the event; nothing for most kinds that Resend does not know. `hosts`: for domains."""
    at = from_ms(event.fields["at"])
    if event.kind == "policy_changed":
        return [_payload(kind, at, data, event.fields["name"]) for kind, data in _policy(event.fields, at, hosts)]
    if message is None:
        return []
    return [
        _payload(kind, at, _data(message, recipient) | added, _subject_of(event, recipient))
        for kind, recipient, added in _told(event, message)
    ]


def _subject_of(event: Event, recipient: int | None) -> str:
    """What tells it from others of its kind and time: the recipient, or the number among all events."""
    return f"{event.fields['id']}/{f'#{event.number}' if recipient is None else recipient}"


def _told(event: Event, message: Message) -> Iterator[Told]:
    fields = event.fields
    everyone = range(len(message.recipients))
    match event.kind:
        case "accepted":
            kind = "email.scheduled" if _is_later(message) else "email.sent"
            yield from ((kind, recipient, {}) for recipient in everyone)
        case "attempted":
            yield from _attempted(fields, message)
        case "complained":
            yield from (("email.complained", recipient, {}) for recipient in fields["recipients"])
        case "held":
            added = {"failed": {"reason": fields["reason"]}}
            yield from (("email.failed", recipient, added) for recipient in fields.get("recipients", ()))
        case "opened":
            yield "email.opened", None, {}
        case "clicked":
            yield "email.clicked", None, {"click": _click(fields)}


def _attempted(fields: Fields, message: Message) -> Iterator[Told]:
    first = fields["number"] == 1 and _is_later(message)
    for outcome in fields["outcomes"]:
        state, recipient = State(outcome["state"]), outcome["recipient"]
        if first and state is not State.SUPPRESSED:
            yield "email.sent", recipient, {}
        if state is State.FAILED:
            yield _WORDS[state], recipient, {"bounce": _bounce(outcome)}
        elif state is State.SUPPRESSED:
            yield _WORDS[state], recipient, {"suppressed": _suppressed(outcome)}
        else:
            yield _WORDS[state], recipient, {}


def _click(fields: Fields) -> Fields:
    return {
        "ipAddress": fields["ip_address"],
        "link": fields["link"],
        "timestamp": iso(from_ms(fields["at"])),
        "userAgent": fields["user_agent"],
    }


def _is_later(message: Message) -> bool:
    return message.scheduled_at is not None and message.scheduled_at > message.created_at


def _bounce(outcome: Fields) -> Fields:
    kind, sub_type = bounce_of(str(outcome["status"]))
    return {"message": outcome["text"], "type": kind, "subType": sub_type, "diagnosticCode": _diagnostic(outcome)}


def _suppressed(outcome: Fields) -> Fields:
    why = _WHY.search(outcome["text"])
    reason = _REASONS[Origin(why[1])] if why else _REASONS[Origin.BOUNCE]
    return {
        "message": outcome["text"],
        "type": "OnAccountSuppressionList",
        "reason": reason,
        "diagnosticCode": _diagnostic(outcome),
    }


def _diagnostic(outcome: Fields) -> list[str]:
    """The server's words as a DSN has them (RFC 3464 section 2.3.6), if a server spoke."""
    return [f"smtp; {outcome['code']} {outcome['text']}"] if outcome["code"] else []


def _data(message: Message, recipient: int | None) -> Fields:
    data: Fields = {
        "email_id": message.id,
        "message_id": message.message_id_header,
        "created_at": iso(message.created_at),
        "from": message.sender,
        "to": [r.address for r in (message.recipients if recipient is None else [message.recipients[recipient]])],
        "subject": message.subject,
    }
    return data | {"tags": dict(message.tags)} if message.tags else data


def _policy(fields: Fields, at: datetime, hosts: Hosts) -> Iterator[tuple[str, Fields]]:
    match fields["object"]:
        case domain_store.KIND:
            yield from _domain(fields, hosts)
        case suppression.KIND:
            yield _suppression(fields, at)


def _domain(fields: Fields, hosts: Hosts) -> Iterator[tuple[str, Fields]]:
    """Nothing of a name that the operator merely allowed or denied."""
    value = fields["value"] or fields.get("was") or {}
    if "id" not in value:
        return
    domain = SenderDomain.from_dict(value)
    data = {
        "id": domain.id,
        "name": domain.name,
        "status": domain.status(hosts),
        "created_at": iso(domain.created_at),
        "region": domain.region,
        "records": [record.shown() for record in domain.records(hosts)],
    }
    happened = "deleted" if fields["value"] is None else "created" if fields.get("made") else "updated"
    yield f"domain.{happened}", data


def _suppression(fields: Fields, at: datetime) -> tuple[str, Fields]:
    entry = fields["value"] or fields.get("was") or {}
    created_at = from_ms(entry["created_at"]) if entry else at
    data = {name: entry.get(name) for name in ("id", "origin", "source_id")}
    data |= {"email": fields["name"], "created_at": iso(created_at)}
    return ("suppression.added" if fields["value"] else "suppression.removed"), data


def _payload(kind: str, at: datetime, data: Fields, of: str) -> Payload:
    body: Any = {"type": kind, "created_at": iso(at), "data": data}
    digest = hashlib.sha256(f"{kind}\0{of}\0{at.isoformat()}".encode()).hexdigest()
    return Payload(f"msg_{digest[:32]}", kind, at, orjson.dumps(body))
