"""Resend's test addresses, answered here: the lane `resend.dev` never reaches a network. Pure.

`delivered@`, `bounced@`, `complained@`, `suppressed@`, each with an optional `+label`. Any other mailbox there bounces.
With a label a bounce or a complaint also puts the address on the suppression list, so that this can be tried, and tried
again with another label; the bare addresses always do the same.
"""

from datetime import datetime

from outbox.message import Attempt, Claim, Outcome
from outbox.states import State
from outbox.suppression import Origin

LANE = "resend.dev"

_NO_SUCH_MAILBOX = (550, "5.1.1", "5.1.1 the simulator has no such mailbox")
_ORIGINS = {"bounced": Origin.BOUNCE, "complained": Origin.COMPLAINT}
_TAKEN = (250, "2.0.0", "2.0.0 delivered to the simulator")


def simulate(claim: Claim, *, started_at: datetime) -> Attempt:
    """The attempt that the test addresses ask for."""
    mailboxes = {index: _mailbox(claim.message.recipients[index].address) for index in claim.recipients}
    return Attempt(
        started_at=started_at,
        route="simulator",
        outcomes=tuple(_outcome(index, mailbox) for index, mailbox in mailboxes.items()),
        peer="simulator",
        complained=tuple(index for index, mailbox in mailboxes.items() if mailbox == "complained"),
        suppress=tuple(
            (index, _ORIGINS[mailbox])
            for index, mailbox in mailboxes.items()
            if mailbox in _ORIGINS and "+" in claim.message.recipients[index].address
        ),
    )


def _mailbox(address: str) -> str:
    return address.rpartition("@")[0].partition("+")[0].lower()


def _outcome(index: int, mailbox: str) -> Outcome:
    if mailbox in ("delivered", "complained"):
        return Outcome(index, State.DELIVERED, *_TAKEN)
    if mailbox == "suppressed":
        return Outcome(index, State.SUPPRESSED, 0, "5.7.1", "the address is on the simulator's suppression list")
    if mailbox == "bounced":
        return Outcome(index, State.FAILED, 550, "5.1.1", "5.1.1 the simulator bounces this address")
    return Outcome(index, State.FAILED, *_NO_SUCH_MAILBOX)
