"""How a message is shown to clients: one place for what comes from the outbox and what comes from the history."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from outbox.content import Parts, parts
from outbox.states import LastEvent
from outbox.view import MessageView

OURS = "nightmail"  # the key of what Resend does not say
_LARGE = 64 * 1024


class Tag(BaseModel):
    """A word of the client's own."""

    name: str
    value: str


class EmailSummary(BaseModel):
    """A message in a list."""

    id: str
    message_id: str
    to: list[str]
    sender: Annotated[str, Field(alias="from")]
    created_at: str
    subject: str
    bcc: list[str] | None
    cc: list[str] | None
    reply_to: list[str] | None
    last_event: LastEvent
    scheduled_at: str | None
    topic_id: str | None


class Email(EmailSummary):
    """A message by itself."""

    object: Literal["email"]
    html: str | None
    text: str | None
    tags: list[Tag]


class RecipientState(BaseModel):
    """One recipient: its state (docs/states.md), and the reply to its last attempt."""

    address: str
    kind: str
    state: str
    code: int | None
    status: str | None
    text: str | None


class Beyond(BaseModel):
    """What Resend does not say. `timeline` is null while the history cannot be asked."""

    recipients: list[RecipientState]
    timeline: list[dict[str, Any]] | None


class EmailInFull(Email):
    """A message by itself, with what became of each recipient."""

    nightmail: Beyond


class EmailList(BaseModel):
    """A page of messages, newest first."""

    object: Literal["list"]
    has_more: bool
    data: list[EmailSummary]


class Reference(BaseModel):
    """What was changed."""

    object: Literal["email"]
    id: str


class Sent(BaseModel):
    """A message that is ours now."""

    id: str


class RefusedItem(BaseModel):
    """A message of a batch that was not taken."""

    index: int
    message: str


class SentBatch(BaseModel):
    """The messages of a batch that are ours now; `errors` in permissive mode only."""

    data: list[Sent]
    errors: list[RefusedItem] | None = None


class ChaosSwitch(BaseModel):
    """What the database does on purpose, and when that ends."""

    mode: str
    until: str | None


class Problem(BaseModel):
    """Any error."""

    statusCode: int  # noqa: N815  (the wire's name)
    name: str
    message: str


def summary(view: MessageView) -> dict[str, Any]:
    """A message as an item of a list."""
    message = view.message
    return {
        "id": message.id,
        "message_id": message.message_id_header,
        "to": message.to,
        "from": message.sender,
        "created_at": timestamp(message.created_at),
        "subject": message.subject,
        "bcc": message.bcc or None,
        "cc": message.cc or None,
        "reply_to": message.reply_to or None,
        "last_event": view.last_event,
        "scheduled_at": timestamp(message.scheduled_at) if message.scheduled_at else None,
        "topic_id": None,
    }


def recipients(view: MessageView) -> list[dict[str, Any]]:
    """Each recipient with its state and the last words about it."""
    return [
        {
            "address": recipient.address,
            "kind": recipient.kind,
            "state": state,
            "code": outcome.code if outcome else None,
            "status": outcome.status if outcome else None,
            "text": outcome.text if outcome else None,
        }
        for recipient, state, outcome in zip(view.message.recipients, view.states, view.outcomes, strict=True)
    ]


async def show(view: MessageView) -> dict[str, Any]:
    """A message by itself; a large one is read in a thread, so that nobody's mail waits for it."""
    size = len(view.content or b"")
    return await asyncio.to_thread(_show, view) if size > _LARGE else _show(view)


def _show(view: MessageView) -> dict[str, Any]:
    body = parts(view.content) if view.content is not None else Parts()
    return {
        "object": "email",
        **summary(view),
        "html": body.html,
        "text": None if view.message.text_derived else body.text,
        "tags": [{"name": name, "value": value} for name, value in view.message.tags],
    }


def timestamp(instant: datetime) -> str:
    """Resend's form, as PostgreSQL writes it: `2025-11-30 20:39:59.540771+00`."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
