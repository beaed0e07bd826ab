"""The leases that one channel holds, and how sure we are of each, on the monotonic clock.

A lease counts from before the call that granted or extended it: we believe in it for less time than the queue does.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from outbox.message import Claim

MARGIN = 0.1  # share of a lease that is not relied upon: clocks drift, and the dot needs time to arrive


class Leases:
    """Claims in hand. Anything that is no longer in here is not ours to send."""

    def __init__(self, lease: timedelta, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = lease.total_seconds() * (1 - MARGIN)
        self._clock = clock
        self._held: dict[str, tuple[Claim, float]] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def claims(self) -> list[Claim]:
        """All that are held, oldest first."""
        return [claim for claim, _ in self._held.values()]

    def take(self, claims: Iterable[Claim], *, asked_at: float) -> None:
        """These were granted, or extended, by a call that began at `asked_at`."""
        until = asked_at + self._seconds
        for claim in claims:
            self._held[claim.delivery_id] = (claim, until)

    def renewed(self, claims: Sequence[Claim], lost: set[str], *, asked_at: float) -> None:
        """The queue extended these, less the lost. What was settled meanwhile stays settled."""
        for delivery_id in lost:
            self._held.pop(delivery_id, None)
        self.take((c for c in claims if c.delivery_id in self._held), asked_at=asked_at)

    def drop(self, claim: Claim) -> None:
        """Settled, released or lost."""
        self._held.pop(claim.delivery_id, None)

    def holds(self, claim: Claim) -> bool:
        """Whether the claim is in hand, though its lease may be in doubt until it is renewed."""
        return claim.delivery_id in self._held

    def sure(self, claim: Claim) -> bool:
        """Whether nobody else can have the delivery now."""
        held = self._held.get(claim.delivery_id)
        return held is not None and self._clock() < held[1]
