"""One log line per attempt and recipient, with the words of a Postfix `status=` line, and the same for Prometheus."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from outbox.states import State
from runtime.logs import fact
from worker.conclude import begun_at
from worker.metrics import DELAY, OUTCOMES, STEPS
from worker.receipts import Receipt

# To look up a labelled child costs more than to count with it, and there are few of them.
_step = cache(STEPS.labels)
_outcome = cache(OUTCOMES.labels)


def trace(receipts: Sequence[Receipt]) -> None:
    """Tell of attempts that have ended."""
    for receipt in receipts:
        for line in _lines(receipt):
            fact("delivery.attempted", **line)


def _lines(receipt: Receipt) -> Iterator[dict[str, Any]]:
    claim, attempt = receipt.claim, receipt.attempt
    delay = max(0.0, (receipt.ended_at - begun_at(claim.message)).total_seconds())
    for step, ms in attempt.steps:
        _step(step).observe(ms / 1000)
    delays = {step: round(ms, 2) for step, ms in attempt.steps}
    for outcome in attempt.outcomes:
        _outcome(attempt.route, outcome.state).inc()
        if outcome.state is State.DELIVERED:
            DELAY.observe(delay)
        yield {
            "id": claim.message.id,
            "to": claim.message.recipients[outcome.recipient].address,
            "relay": attempt.peer or "none",
            "tls": attempt.tls,
            "attempt": claim.attempts + 1,
            "delay": round(delay, 3),
            "delays": delays,
            "dsn": outcome.status,
            "state": outcome.state,
            "code": outcome.code,
            "reply": outcome.text,
            "possible_duplicate": claim.possible_duplicate,
        }
