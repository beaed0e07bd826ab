"""How many requests a key may make: a fixed window of one second, as Resend counts. Per process, in memory."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """The answer to one request: whether it may pass, and what the rate-limit headers say."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int


class RateLimiter:
    """Counts per key in the running second; forgets everything when the second ends."""

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._window = 0
        self._used: dict[str, int] = {}

    def take(self, key: str, limit: int | None = None) -> Rate:
        """Count one request of `key`, against `limit` if the key has its own."""
        now = self._clock()
        if math.floor(now) != self._window:
            self._window = math.floor(now)
            self._used.clear()
        most = limit or self._limit
        used = self._used.get(key, 0)
        allowed = used < most
        if allowed:
            used += 1
            self._used[key] = used
        return Rate(allowed, most, most - used, 1)
