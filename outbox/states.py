"""The states of one recipient of one message, the legal moves, and what Resend calls the result.

`docs/states.md` holds the drawing; a test holds it to this table. The Lua scripts carry the same words.
"""

from collections.abc import Iterable
from enum import StrEnum
from functools import cache


class State(StrEnum):
    """Where one recipient of one message stands. Each word says who moves it on."""

    SCHEDULED = "scheduled"  # waits in its lane for scheduled_at; claim or cancel moves it
    QUEUED = "queued"  # due, waits in its lane; claim or cancel moves it
    SENDING = "sending"  # under a lease; settle, release, reap or rescue moves it
    DEFERRED = "deferred"  # last attempt was transient, waits for next_attempt_at; claim or cancel moves it
    DELIVERED = "delivered"  # ended: the next hop took responsibility (RFC 5321 section 4.2.5)
    FAILED = "failed"  # ended: permanent reply, or expired (RFC 3463 X.4.7)
    SUPPRESSED = "suppressed"  # ended: on the suppression list, never tried
    CANCELLED = "cancelled"  # ended: by the client, before any attempt was under way
    HELD = "held"  # put aside for a person: too many lost leases, or content lost; neither waits nor ended


WAITING = frozenset({State.SCHEDULED, State.QUEUED, State.DEFERRED})
ENDED = frozenset({State.DELIVERED, State.FAILED, State.SUPPRESSED, State.CANCELLED})

# The word on each arrow of the drawing -> (states it leaves, states it may reach).
MOVES: dict[str, tuple[frozenset[State], frozenset[State]]] = {
    "accept": (frozenset(), frozenset({State.SCHEDULED, State.QUEUED})),
    "claim": (WAITING, frozenset({State.SENDING})),
    "settle": (
        frozenset({State.SENDING}),
        frozenset({State.DELIVERED, State.FAILED, State.SUPPRESSED, State.DEFERRED}),
    ),
    "release": (frozenset({State.SENDING}), frozenset({State.QUEUED})),
    "reap": (frozenset({State.SENDING}), frozenset({State.QUEUED, State.HELD})),
    "rescue": (frozenset({State.SENDING}), frozenset({State.QUEUED, State.HELD})),
    "hold": (frozenset({State.SENDING}), frozenset({State.HELD})),
    "reschedule": (frozenset({State.SCHEDULED}), frozenset({State.SCHEDULED})),
    "cancel": (WAITING | {State.HELD}, frozenset({State.CANCELLED})),
    "redrive": (frozenset({State.HELD}), frozenset({State.QUEUED})),
}


def may(move: str, old: State, new: State) -> bool:
    """Whether `move` may take a recipient from `old` to `new`."""
    leaves, reaches = MOVES[move]
    return old in leaves and new in reaches


class LastEvent(StrEnum):
    """Resend's words for a whole message (its `last_event`)."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    CANCELED = "canceled"
    SENT = "sent"
    DELIVERED = "delivered"
    OPENED = "opened"
    CLICKED = "clicked"
    DELIVERY_DELAYED = "delivery_delayed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    FAILED = "failed"
    SUPPRESSED = "suppressed"


# What one recipient's state says, the weightiest first: a message shows the weightiest of its recipients'.
_WORDS: tuple[tuple[State, LastEvent], ...] = (
    (State.FAILED, LastEvent.BOUNCED),
    (State.SUPPRESSED, LastEvent.SUPPRESSED),
    (State.HELD, LastEvent.FAILED),
    (State.DEFERRED, LastEvent.DELIVERY_DELAYED),
    (State.SENDING, LastEvent.SENT),
    (State.QUEUED, LastEvent.QUEUED),
    (State.SCHEDULED, LastEvent.SCHEDULED),
    (State.CANCELLED, LastEvent.CANCELED),
    (State.DELIVERED, LastEvent.DELIVERED),
)


class Reaction(StrEnum):
    """What is known of readers of a message, where it is tracked. A click outweighs an opening."""

    OPENED = "opened"
    CLICKED = "clicked"

    @classmethod
    def furthest(cls, *reactions: "Reaction | None") -> "Reaction | None":
        """The weightiest of them."""
        return cls.CLICKED if cls.CLICKED in reactions else cls.OPENED if cls.OPENED in reactions else None


def last_event(states: Iterable[State], *, complained: bool = False, reaction: Reaction | None = None) -> LastEvent:
    """The message's `last_event`: the weightiest word among its recipients.

    A complaint outweighs all, since it follows a delivery. A reaction shows in place of `delivered` only: nobody can
    tell whose it is, so it must not hide what became of another recipient.
    """
    if complained:
        return LastEvent.COMPLAINED
    word = _weightiest(frozenset(states))
    return LastEvent(reaction) if reaction and word is LastEvent.DELIVERED else word


@cache
def _weightiest(present: frozenset[State]) -> LastEvent:
    return next((word for state, word in _WORDS if state in present), LastEvent.QUEUED)
