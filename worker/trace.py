"""One log line per attempt and recipient, with the words of a Postfix `status=` line, and the same for Prometheus."""

from collections.abc import Sequence

from outbox.states import State
from runtime.logs import fact
from worker.conclude import begun_at
from worker.metrics import DELAY, OUTCOMES, STEPS
from worker.receipts import Receipt


def trace(receipts: Sequence[Receipt]) -> None:
    """Tell of attempts that have ended."""
    for receipt in receipts:
        _tell(receipt)


def _tell(receipt: Receipt) -> None:
    claim, told = receipt.claim, receipt.header
    delay = max(0.0, (receipt.ended_at - begun_at(claim.message)).total_seconds())
    delays = dict(told["steps"])
    STEPS.observe_all(delays)
    for recipient, state, code, status, text in told["outcomes"]:
        OUTCOMES.by[told["route"], state] += 1
        if state is State.DELIVERED:
            DELAY.observe(delay)
        fact(
            "delivery.attempted",
            id=claim.message.id,
            to=claim.message.recipients[recipient].address,
            relay=told["peer"] or "none",
            tls=told["tls"],
            attempt=claim.attempts + 1,
            delay=delay,
            delays=delays,
            dsn=status,
            state=state,
            code=code,
            reply=text,
            possible_duplicate=claim.possible_duplicate,
        )
