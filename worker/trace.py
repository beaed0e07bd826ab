"""One log line per attempt and recipient, with the words of a Postfix `status=` line, and the same for Prometheus."""

from functools import cache

from outbox.states import State
from runtime.logs import get
from worker.conclude import begun_at
from worker.metrics import DELAY, OUTCOMES, STEPS
from worker.receipts import Receipt

log = get(__name__)

# To look up a labelled child costs more than to count with it, and there are few of them.
_step = cache(STEPS.labels)
_outcome = cache(OUTCOMES.labels)


def trace(receipt: Receipt) -> None:
    """Tell of an attempt that has ended."""
    claim, attempt = receipt.claim, receipt.attempt
    delay = max(0.0, (receipt.ended_at - begun_at(claim.message)).total_seconds())
    delays = {step: round(ms, 2) for step, ms in attempt.steps}
    for step, ms in attempt.steps:
        _step(step).observe(ms / 1000)
    for outcome in attempt.outcomes:
        _outcome(attempt.route, outcome.state).inc()
        if outcome.state is State.DELIVERED:
            DELAY.observe(delay)
        log.info(
            "delivery.attempted",
            id=claim.message.id,
            to=claim.message.recipients[outcome.recipient].address,
            relay=attempt.peer or "none",
            tls=attempt.tls,
            attempt=claim.attempts + 1,
            delay=round(delay, 3),
            delays=delays,
            dsn=outcome.status,
            state=outcome.state,
            code=outcome.code,
            reply=outcome.text,
            possible_duplicate=claim.possible_duplicate,
        )
