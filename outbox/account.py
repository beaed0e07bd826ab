"""All that is known of one message, gathered from journals, archive and queue: where each recipient stands. Pure.

The facts may come in any order and several times: a receipt and its event tell the same attempt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from outbox.states import Reaction, State

OutcomeFields = list[Any]  # [recipient, state, code, status, text]


class JournalPlace(NamedTuple):
    """A message in a journal: the number of the file among those read, the record's offset, its place in the record."""

    file: int
    offset: int
    nth: int


class EventPlace(NamedTuple):
    """An `accepted` event: the number of the archive among those read (-1: the queue's stream), and its own number."""

    archive: int
    number: int


@dataclass(slots=True)
class Try:
    """One attempt. `event` is its number, 0 while only a receipt tells of it; `receipt` is where that lies."""

    ended_at: int
    next_attempt_at: int | None
    in_doubt: bool
    outcomes: list[OutcomeFields]
    event: int = 0
    receipt: tuple[int, int] | None = None


@dataclass(slots=True)
class Account:
    """One message's. Instants are milliseconds."""

    id: str
    recipients: int = 0
    created_at: int = 0
    journal: JournalPlace | None = None
    accepted: EventPlace | None = None
    confirmed: bool = False  # some queue had it
    repeat: bool = False  # answered by an earlier use of its idempotency key, and never to be sent
    tries: dict[tuple[int, int], Try] = field(default_factory=dict)  # that events tell, by delivery and number
    receipts: dict[tuple[int, int, int], Try] = field(default_factory=dict)  # by delivery, number and token
    tokens: dict[int, set[int]] = field(default_factory=dict)  # begun, by delivery
    receipted: dict[int, int] = field(default_factory=dict)  # newest token with a receipt, by delivery
    leases: dict[int, tuple[int, str]] = field(default_factory=dict)  # last event about a lease, by delivery
    doubted: set[int] = field(default_factory=set)  # deliveries that lost a lease in mid-attempt
    cancelled_at: int | None = None
    cancel_recorded: bool = False
    rescheduled: tuple[int, int] | None = None  # (when, to when), the last
    reschedule_recorded: int = 0  # when the last recorded one was made
    complained: bool = False
    reaction: Reaction | None = None
    in_queue: bool = False
    live: bool = False  # in the queue, with work left
    blobs: set[str] = field(default_factory=set)  # SHA-256 of its content, where that lies beside the queue

    def take(self, kind: str, *fact: Any) -> None:
        """Add a fact of outbox/facts.py."""
        getattr(self, f"_{kind}")(*fact)

    def _journal(self, file: int, offset: int, nth: int, *told: Any) -> None:
        self.journal = JournalPlace(file, offset, nth)
        self.recipients, self.created_at, confirmed = told
        self.confirmed |= confirmed

    def _confirmed(self, repeat: bool) -> None:  # noqa: FBT001
        self.confirmed = True
        self.repeat |= repeat

    def _accepted(self, archive: int, number: int, recipients: int) -> None:
        self.accepted = EventPlace(archive, number)
        self.recipients = recipients
        self.confirmed = True

    def _attempted(self, delivery: int, number: int, event: int, *told: Any) -> None:
        self.tries[delivery, number] = replace(Try(*told), event=event)

    def _receipt(self, token: int, delivery: int, number: int, place: list[int], *told: Any) -> None:
        self.receipted[delivery] = max(token, self.receipted.get(delivery, 0))
        self.receipts[delivery, number, token] = replace(Try(*told), receipt=(place[0], place[1]))

    def _begun(self, delivery: int, token: int) -> None:
        self.tokens.setdefault(delivery, set()).add(token)

    def _lease(self, delivery: int, event: int, kind: str, duplicate: bool) -> None:  # noqa: FBT001
        self.leases[delivery] = max((event, kind), self.leases.get(delivery, (0, "")))
        if duplicate:
            self.doubted.add(delivery)

    def _cancelled(self, at: int, recorded: bool) -> None:  # noqa: FBT001
        self.cancelled_at = at
        self.cancel_recorded |= recorded

    def _rescheduled(self, at: int, to: int, recorded: bool) -> None:  # noqa: FBT001
        self.rescheduled = max((at, to), self.rescheduled or (0, 0))
        if recorded:
            self.reschedule_recorded = max(at, self.reschedule_recorded)

    def _complained(self) -> None:
        self.complained = True

    def _reacted(self, reaction: str) -> None:
        self.reaction = Reaction.furthest(self.reaction, Reaction(reaction))

    def _queue(self, live: bool) -> None:  # noqa: FBT001
        self.in_queue = True
        self.live |= live

    def _blob(self, digest: str) -> None:
        self.blobs.add(digest)

    def _seen(self, outcomes: list[OutcomeFields]) -> None:
        """Ends that an old queue knows."""
        self.tries.setdefault((-1, 0), Try(0, None, in_doubt=False, outcomes=[], event=1)).outcomes += outcomes

    def counts(self, begins_at: int) -> bool:
        """Whether it is a message of ours, and not older than what the archive tells, unless the queue has it."""
        if self.repeat:
            return False
        young = self.created_at >= begins_at or not self.confirmed or self.live
        return self.accepted is not None or (self.journal is not None and young)

    def outcomes(self) -> dict[int, OutcomeFields]:
        """The last outcome of each recipient. An end is final, and of two ends a delivery counts."""
        return _fold([*self.tries.items(), *self.receipts.items()])

    def ends(self) -> dict[int, State]:
        """The end of each recipient that has one."""
        ends = {r: State(outcome[1]) for r, outcome in self.outcomes().items() if outcome[1] != State.DEFERRED}
        if self.cancelled_at is not None:
            ends |= {r: State.CANCELLED for r in range(self.recipients) if r not in ends}
        return ends

    def last_try(self, delivery: int) -> tuple[int, Try | None]:
        """The number of the delivery's last attempt that was settled, 0 for none, and the attempt."""
        number = max((key[1] for key in (*self.tries, *self.receipts) if key[0] == delivery), default=0)
        told = self.tries.get((delivery, number))
        return number, told or next((a for (d, n, _), a in self.receipts.items() if (d, n) == (delivery, number)), None)

    def in_doubt(self, delivery: int) -> bool:
        """Whether the next hop may have what was not confirmed: begun without a receipt, a lost lease, or no answer.

        What one attempt left open, no later one settles.
        """
        begun = any(token > self.receipted.get(delivery, 0) for token in self.tokens.get(delivery, ()))
        tries = [*self.tries.items(), *self.receipts.items()]
        return begun or delivery in self.doubted or any(a.in_doubt for (d, *_), a in tries if d == delivery)

    def is_held(self, delivery: int) -> bool:
        """Whether it was put aside for a person, and nothing has happened since."""
        event, kind = self.leases.get(delivery, (0, ""))
        _, last = self.last_try(delivery)
        return kind == "held" and (last is None or (last.event != 0 and last.event < event))

    def untold(self) -> list[Try]:
        """Attempts that no event tells of; and one whose lease was lost, if it alone tells of an end."""
        ended = {r for r, outcome in _fold(list(self.tries.items())).items() if outcome[1] != State.DEFERRED}
        return [
            attempt
            for (delivery, number, _), attempt in self.receipts.items()
            if (delivery, number) not in self.tries
            or any(o[1] != State.DEFERRED and o[0] not in ended for o in attempt.outcomes)
        ]

    @property
    def is_told(self) -> bool:
        """Whether the events tell all of it."""
        cancel = self.cancelled_at is None or self.cancel_recorded
        moved = self.rescheduled is None or self.rescheduled[0] <= self.reschedule_recorded
        return self.accepted is not None and cancel and moved and not self.untold()


def _fold(tries: Sequence[tuple[tuple[int, ...], Try]]) -> dict[int, OutcomeFields]:
    last: dict[int, OutcomeFields] = {}
    for _, attempt in sorted(tries, key=lambda item: item[0][1]):
        for outcome in attempt.outcomes:
            earlier = last.get(outcome[0])
            if earlier is None or earlier[1] == State.DEFERRED or outcome[1] == State.DELIVERED:
                last[outcome[0]] = outcome
    return last
