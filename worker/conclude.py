"""From an attempt that has ended to what is settled: when to try again, or that it was the last time. Pure."""

from datetime import datetime

from outbox.message import Attempt, Claim, Message
from outbox.schedule import next_attempt_at
from outbox.states import State
from runtime.settings import Settings
from worker import verdict
from worker.receipts import Receipt


def conclude(claim: Claim, attempt: Attempt, *, now: datetime, jitter: float, settings: Settings) -> Receipt:
    """The receipt of an attempt. `jitter` is in [0, 1). A message that is too old is not deferred but fails."""
    if State.DEFERRED not in [outcome.state for outcome in attempt.outcomes]:
        return Receipt(claim, attempt, now, None)
    again_at = next_attempt_at(
        attempts=claim.attempts + 1, created_at=begun_at(claim.message), now=now, jitter=jitter, settings=settings
    )
    if again_at is None:
        attempt = verdict.expire(attempt)
    return Receipt(claim, attempt, now, again_at)


def begun_at(message: Message) -> datetime:
    """When its delivery could begin: its age counts from here, or mail scheduled for next week would expire at once."""
    return max(message.created_at, message.scheduled_at) if message.scheduled_at else message.created_at
