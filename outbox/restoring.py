"""From the account of one message to the arguments of restore.lua: its state, and the events nobody else tells.

Pure but for the receipts, which are read from the journals again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from redis import Redis

from outbox import events
from outbox.account import Account, Try
from outbox.entry import Submission
from outbox.facts import Sources
from outbox.lines import Argument
from outbox.message import Delivery, Message, Outcome
from outbox.receipt import Receipt
from outbox.scripts import source
from outbox.states import State
from outbox.suppression import Origin, Suppression, normal
from outbox.view import outcome_json
from runtime.clock import from_ms, to_ms


@dataclass(frozen=True, slots=True)
class Restoring:
    """What all messages of one rebuild share. Its `token` is above every fencing token that was ever given out."""

    sources: Sources
    generation: str  # empty: a message that the queue knows is left as it is
    node: str
    now: datetime

    @property
    def token(self) -> int:
        """The clock in milliseconds: no delivery is claimed a thousand times a second, so no old token catches up."""
        return to_ms(self.now)

    def arguments(self, account: Account, submission: Submission) -> list[Argument]:
        """ARGV of restore.lua."""
        message = submission.message
        moved = account.rescheduled[1] if account.rescheduled else None
        due_from = replace(message, scheduled_at=from_ms(moved)) if moved else message
        flat: list[Argument] = [self.generation, to_ms(self.now), message.id, message.to_json(), submission.queued()]
        flat += [to_ms(message.created_at), moved or "", int(account.complained)]
        flat += [account.reaction or "", len(message.deliveries())]
        for delivery in message.deliveries():
            flat += self._delivery(account, due_from, delivery)
        outcomes = account.outcomes().values()
        flat.append(len(outcomes))
        for recipient, state, *said in outcomes:
            flat += [recipient, state, outcome_json(Outcome(recipient, State(state), *said))]
        flat.append(account.accepted.number if account.accepted else "")
        told = self.events(account, message)
        suppressed = self._suppressed(account, message)
        return [*flat, len(told), *told, len(suppressed) // 2, *suppressed]

    def _suppressed(self, account: Account, message: Message) -> list[Argument]:
        """Addresses that attempts put on the suppression list and no event tells of, each with its value."""
        flat: list[Argument] = []
        for attempt in account.untold():
            receipt = Receipt.of(self.sources.receipt(attempt.receipt)[0]) if attempt.receipt else None
            for recipient, why in receipt.attempt.suppress if receipt else ():
                address = normal(message.recipients[recipient].address)
                new = Suppression.new(address, Origin(why), message.id, now=from_ms(attempt.ended_at))
                flat += [address, new.to_json()]
        return flat

    def _delivery(self, account: Account, message: Message, delivery: Delivery) -> list[Argument]:
        ends = account.ends()
        attempts, last = account.last_try(delivery.index)
        cancelled = [r for r in delivery.recipients if ends.get(r) is State.CANCELLED]
        waiting = [r for r in delivery.recipients if r not in ends]
        state, due = self._state(account, message, delivery.index, last)
        if not waiting:
            state = State.CANCELLED if cancelled else "ended"
        partly = bool(waiting) and len(waiting) < len(delivery.recipients)
        doubt = bool(waiting) and account.in_doubt(delivery.index)
        to = ",".join(map(str, waiting or cancelled))
        error = _error(last) if state == State.DEFERRED else ""
        return [delivery.lane, due, state, to, attempts, int(doubt), error, self.token, int(partly)]

    def _state(self, account: Account, message: Message, delivery: int, last: Try | None) -> tuple[str, int]:
        """Where what waits of a delivery stands, and when it is due."""
        if account.is_held(delivery):
            return State.HELD, to_ms(self.now)
        if last is not None:
            return State.DEFERRED, last.next_attempt_at or to_ms(self.now)
        if message.scheduled_at is not None and message.scheduled_at > self.now:
            return State.SCHEDULED, to_ms(message.scheduled_at)
        return State.QUEUED, to_ms(message.created_at)

    def events(self, account: Account, message: Message) -> list[bytes]:
        """What no archive tells of the message, as events that say so, oldest first."""
        told: list[dict[str, Any]] = []
        if account.accepted is None:
            told.append(orjson.loads(events.accepted(message)))
        if account.rescheduled and account.rescheduled[0] > account.reschedule_recorded:
            at, to = account.rescheduled
            told.append(orjson.loads(events.rescheduled(message.id, from_ms(to), at=from_ms(at))))
        for attempt in sorted(account.untold(), key=lambda attempt: attempt.ended_at):
            told += self._attempted(attempt)
        if account.cancelled_at is not None and not account.cancel_recorded:
            told.append(orjson.loads(events.cancelled(message.id, at=from_ms(account.cancelled_at))))
        told += self._taken_back(account, message)
        return [orjson.dumps(event | {"restored": True}) for event in told]

    def _attempted(self, attempt: Try) -> list[dict[str, Any]]:
        if attempt.receipt is None:
            return []
        header, folder = self.sources.receipt(attempt.receipt)
        receipt = Receipt.of(header)
        worker = f"{self.node}:{folder.replace('-', ':')}"
        told = [events.attempted(receipt, worker=worker)]
        if complained := receipt.attempt.complained:
            told.append(events.complained(receipt.claim.message.id, complained, at=receipt.ended_at))
        return [orjson.loads(event) for event in told]

    def _taken_back(self, account: Account, message: Message) -> list[dict[str, Any]]:
        """A worker held it when the queue was lost: the next attempt may be its second."""
        ends = account.ends()
        return [
            {
                "kind": "released",
                "at": to_ms(self.now),
                "id": message.id,
                "delivery": delivery.index,
                "reason": "rebuilt",
                "possible_duplicate": True,
            }
            for delivery in message.deliveries()
            if account.in_doubt(delivery.index)
            and not account.is_held(delivery.index)
            and any(r not in ends for r in delivery.recipients)
        ]


def _error(last: Try | None) -> str:
    if last is None:
        return ""
    delayed = [o for o in last.outcomes if o[1] == State.DEFERRED]
    return Outcome(delayed[0][0], State.DEFERRED, *delayed[0][2:]).error if delayed else ""


def put(redis: Redis, batch: Sequence[Sequence[Argument]], *, keys: Sequence[str | int]) -> list[int]:
    """Run restore.lua for each list of arguments, in one round trip. `keys`: as in `Memory.script_keys`."""
    text, sha = source("restore")
    redis.script_load(text)
    pipe: Any = redis.pipeline(transaction=False)
    for arguments in batch:
        pipe.evalsha(sha, *keys, *arguments)
    return [int(reply) for reply in pipe.execute()]
