"""What became of each recipient, and each attempt: what we say beyond Resend, under one key that its SDKs ignore."""

from collections.abc import Sequence
from typing import Any

from api.present import recipients, timestamp
from history.queries import TimelineEvent
from outbox.message import Message
from outbox.view import MessageView
from runtime.clock import from_ms

_HIT = ("link", "ip_address", "user_agent")
_TOLD = ("route", "peer", "tls", "steps", "possible_duplicate", "in_doubt", "reason", *_HIT)


def told(view: MessageView, events: Sequence[TimelineEvent] | None) -> dict[str, Any]:
    """The value of the key. `events` None: the history could not be asked, and `timeline` is null."""
    timeline = None if events is None else [_event(event, view.message) for event in events]
    return {"recipients": recipients(view), "timeline": timeline}


def _event(event: TimelineEvent, message: Message) -> dict[str, Any]:
    body = event.body
    said: dict[str, Any] = {"event": event.kind, "at": timestamp(event.at)}
    said |= {name: body[name] for name in _TOLD if name in body}
    if "number" in body:
        said["attempt"] = body["number"]
    for name in ("next_attempt_at", "scheduled_at", "started_at"):
        if body.get(name):
            said[name] = timestamp(from_ms(body[name]))
    if "outcomes" in body:
        said["outcomes"] = [_outcome(outcome, message) for outcome in body["outcomes"]]
    return said


def _outcome(outcome: dict[str, Any], message: Message) -> dict[str, Any]:
    place = int(outcome["recipient"])
    words = {name: outcome.get(name) for name in ("state", "code", "status", "text")}
    return {"address": message.recipients[place].address} | words
