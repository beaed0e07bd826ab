"""A receipt: what the next hop answered to one attempt, as it lies in a worker's journal.

Written by worker/receipts.py before the queue learns of it, and read by outbox/facts.py when the queue forgot it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from outbox.message import Attempt, Claim, Message, Outcome
from outbox.states import State
from runtime.clock import from_ms, to_ms

Header = dict[str, Any]


@dataclass(slots=True)  # not frozen, as a claim is not
class Receipt:
    """An attempt that has ended, ready to be settled."""

    claim: Claim
    attempt: Attempt
    ended_at: datetime
    next_attempt_at: datetime | None
    header: Header = field(init=False, repr=False, compare=False)  # the journal record, of which the event is made too

    def __post_init__(self) -> None:
        self.header = self._header()

    @property
    def key(self) -> str:
        """The claim it belongs to."""
        return self.claim.key

    def _header(self) -> Header:
        claim, attempt = self.claim, self.attempt
        return {
            "kind": "receipt",
            "id": claim.message.id,
            "delivery": claim.index,
            "lane": claim.lane,
            "token": claim.token,
            "attempts": claim.attempts,
            "possible_duplicate": claim.possible_duplicate,
            "created_at": to_ms(claim.message.created_at),
            "started_at": to_ms(attempt.started_at),
            "ended_at": to_ms(self.ended_at),
            "next_attempt_at": to_ms(self.next_attempt_at) if self.next_attempt_at else None,
            "route": attempt.route,
            "peer": attempt.peer,
            "tls": attempt.tls,
            "steps": attempt.steps,
            "complained": attempt.complained,
            "in_doubt": attempt.in_doubt,
            "suppress": attempt.suppress,
            "outcomes": [(o.recipient, o.state, o.code, o.status, o.text) for o in attempt.outcomes],
        }

    @classmethod
    def of(cls, header: Header) -> "Receipt":
        """The inverse of `header`, as far as a settle needs it: addresses and content never enter this journal."""
        outcomes = tuple(
            Outcome(r, State(word), code, status, text) for r, word, code, status, text in header["outcomes"]
        )
        attempt = Attempt(
            started_at=from_ms(header["started_at"]),
            route=header["route"],
            outcomes=outcomes,
            peer=header["peer"],
            tls=header["tls"],
            steps=tuple((step, ms) for step, ms in header["steps"]),
            complained=tuple(header["complained"] or ()),  # once it was False
            in_doubt=header.get("in_doubt", False),
            suppress=tuple((recipient, why) for recipient, why in header.get("suppress", ())),
        )
        next_attempt_at = from_ms(header["next_attempt_at"]) if header["next_attempt_at"] else None
        return cls(_claim(header, outcomes), attempt, from_ms(header["ended_at"]), next_attempt_at)


def _claim(header: Header, outcomes: Sequence[Outcome]) -> Claim:
    message = Message(
        id=header["id"],
        created_at=from_ms(header["created_at"]),
        via="smtp",
        key_id="",
        reverse_path="",
        recipients=(),
        sender="",
    )
    return Claim(
        message=message,
        content=b"",
        index=header["delivery"],
        lane=header["lane"],
        recipients=tuple(o.recipient for o in outcomes),
        attempts=header["attempts"],
        token=header["token"],
        possible_duplicate=header["possible_duplicate"],
    )
