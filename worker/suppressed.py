"""Recipients on the suppression list: left out of an attempt, and among its outcomes all the same. Pure."""

from dataclasses import replace
from datetime import datetime

from outbox.message import Attempt, Claim, Outcome
from outbox.states import State

ROUTE = "suppressed"  # where an attempt went that reached nobody
_STATUS = "5.7.1"  # RFC 3463 section 3.8: not authorised, by us


def none_of(claim: Claim, started_at: datetime) -> Attempt:
    """The attempt at a delivery whose every recipient is suppressed."""
    return Attempt(started_at, ROUTE, _outcomes(claim))


def the_others(claim: Claim) -> Claim:
    """What of the delivery is to be sent."""
    left_out = dict(claim.suppressed)
    return replace(claim, recipients=tuple(r for r in claim.recipients if r not in left_out), suppressed=())


def with_all(claim: Claim, attempt: Attempt) -> Attempt:
    """The attempt at the others, with the outcomes of the suppressed."""
    return replace(attempt, outcomes=(*attempt.outcomes, *_outcomes(claim)))


def _outcomes(claim: Claim) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(recipient, State.SUPPRESSED, 0, _STATUS, f"the address is on the suppression list ({why})")
        for recipient, why in claim.suppressed
    )
