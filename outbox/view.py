"""What the outbox knows of one message, read from its hash."""

from dataclasses import dataclass, replace

import orjson

from outbox.message import Message, Outcome
from outbox.states import LastEvent, Reaction, State, last_event
from runtime.clock import from_ms


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message with the state and last outcome of each recipient, in their order. `content` only when asked for."""

    message: Message
    states: tuple[State, ...]
    outcomes: tuple[Outcome | None, ...]
    complained: bool = False
    content: bytes | None = None
    reaction: Reaction | None = None

    @property
    def last_event(self) -> LastEvent:
        """Resend's word for the whole."""
        return last_event(self.states, complained=self.complained, reaction=self.reaction)


def outcome_json(outcome: Outcome) -> bytes:
    """The form in which a recipient's last outcome lies in the message hash."""
    return orjson.dumps([outcome.state, outcome.code, outcome.status, outcome.text])


def read_view(fields: dict[bytes, bytes], content: bytes | None) -> MessageView:
    """The view of a message hash (its keys are told in lua/_prelude.lua)."""
    message = Message.from_json(fields[b"meta"])
    if b"scheduled_at" in fields:
        message = replace(message, scheduled_at=from_ms(fields[b"scheduled_at"]))
    outcomes = [_outcome(fields.get(b"r:%d" % i), i) for i in range(len(message.recipients))]
    states = [o.state if o else State.QUEUED for o in outcomes]
    for k in range(int(fields[b"n"])):
        pending = fields[b"to:%d" % k]
        for recipient in pending.split(b",") if pending else ():
            states[int(recipient)] = State(fields[b"state:%d" % k].decode())
    reaction = Reaction(fields[b"reaction"].decode()) if b"reaction" in fields else None
    return MessageView(message, tuple(states), tuple(outcomes), b"complained" in fields, content, reaction)


def _outcome(raw: bytes | None, recipient: int) -> Outcome | None:
    if raw is None:
        return None
    state, code, status, text = orjson.loads(raw)
    return Outcome(recipient, State(state), code, status, text)
