"""How one row moves under one event. Pure; the order in which events arrive does not matter, nor how often.

Each row names the event that set it. Of two events the later one wins, but an end is final: nothing moves an ended
recipient, and of two ends (there should be one) the first stands.
"""

from datetime import datetime
from typing import Any

from outbox.events import Fields
from outbox.message import Message, Outcome, Recipient, domain_of
from outbox.states import ENDED, State
from runtime.clock import from_ms

Row = dict[str, Any]


def supersedes(new: State, number: int, *, old: State, old_number: int) -> bool:
    """Whether `new`, set by event `number`, takes the place of `old`."""
    if old in ENDED:
        return new in ENDED and number < old_number
    return new in ENDED or number > old_number


def email_row(message: Fields, number: int) -> Row:
    """The row of a message in its JSON form, as an `accepted` event has it. `last_event` follows from the recipients.

    Straight from the JSON, since a Message in between costs more than all else that is done with an event.
    """
    scheduled_at = message.get("scheduled_at")
    return {
        "id": message["id"],
        "number": number,
        "created_at": from_ms(message["created_at"]),
        "via": message["via"],
        "key_id": message["key_id"],
        "reverse_path": message["reverse_path"],
        "sender": message["sender"],
        "to": message.get("to", ()),
        "cc": message.get("cc", ()),
        "bcc": message.get("bcc", ()),
        "reply_to": message.get("reply_to", ()),
        "subject": message.get("subject", ""),
        "tags": message.get("tags", ()),
        "message_id_header": message.get("message_id_header", ""),
        "size": message.get("size", 0),
        "text_derived": message.get("text_derived", False),
        "smtputf8": message.get("smtputf8", False),
        "scheduled_at": from_ms(scheduled_at) if scheduled_at else None,
        "scheduled_number": number,
        "complained": False,
        "reaction": None,
        "last_event": "",
    }


def recipient_rows(message: Fields, number: int) -> list[Row]:
    """The rows of a message's recipients before any attempt."""
    created_at, scheduled_at = from_ms(message["created_at"]), message.get("scheduled_at")
    scheduled = bool(scheduled_at) and scheduled_at > message["created_at"]
    state = State.SCHEDULED if scheduled else State.QUEUED
    deliveries: dict[str, int] = {}  # numbered by domain, as `Message.deliveries` does
    return [
        {
            "email_id": message["id"],
            "idx": idx,
            "address": address,
            "kind": kind,
            "domain": (domain := domain_of(address)),
            "delivery": deliveries.setdefault(domain, len(deliveries)),
            "state": state,
            "number": number,
            "outcome": None,
            "outcome_number": 0,
            "code": 0,
            "status": "",
            "text": "",
            "updated_at": created_at,
            "ended_at": None,
        }
        for idx, (address, kind) in enumerate(message["recipients"])
    ]


def move(recipient: Row, state: State, *, number: int, at: datetime) -> bool:
    """Move a recipient to `state`, unless what it shows is newer or final. Whether it moved."""
    if not supersedes(state, number, old=recipient["state"], old_number=recipient["number"]):
        return False
    recipient.update(state=state, number=number, updated_at=at, ended_at=at if state in ENDED else None)
    return True


def note_outcome(recipient: Row, outcome: Outcome, *, number: int) -> bool:
    """Keep an attempt's outcome as the recipient's last one, unless a newer one is kept. Whether it was kept."""
    kept: State | None = recipient["outcome"]
    if kept and not supersedes(outcome.state, number, old=kept, old_number=recipient["outcome_number"]):
        return False
    recipient.update(
        outcome=outcome.state, outcome_number=number, code=outcome.code, status=outcome.status, text=outcome.text
    )
    return True


def message_of(email: Row, recipients: list[Row]) -> Message:
    """The message of a whole `emails` row and its recipients in order: the inverse of `email_row`, `recipient_rows`."""
    return Message(
        id=email["id"],
        created_at=email["created_at"],
        via=email["via"],
        key_id=email["key_id"],
        reverse_path=email["reverse_path"],
        recipients=tuple(Recipient(row["address"], row["kind"]) for row in recipients),
        sender=email["sender"],
        to=tuple(email["to"]),
        cc=tuple(email["cc"]),
        bcc=tuple(email["bcc"]),
        reply_to=tuple(email["reply_to"]),
        subject=email["subject"],
        tags=tuple((name, value) for name, value in email["tags"]),
        message_id_header=email["message_id_header"],
        scheduled_at=email["scheduled_at"],
        size=email["size"],
        text_derived=email["text_derived"],
        smtputf8=email["smtputf8"],
    )


def outcome_of(recipient: Row) -> Outcome | None:
    """The last outcome of a `recipients` row; None before the first attempt."""
    if recipient["outcome"] is None:
        return None
    state = State(recipient["outcome"])
    return Outcome(recipient["idx"], state, recipient["code"], recipient["status"], recipient["text"])
