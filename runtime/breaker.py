"""A circuit breaker: after a failure, stop asking for a while, then let one call in to see."""

import time
from collections.abc import Callable
from datetime import timedelta


class Breaker:
    """Closed until a failure; then open, letting one trial through each `pause` until a success closes it.

    Only calls that really reached the store may report: a call refused by the breaker itself must not keep it open.
    """

    def __init__(self, pause: timedelta, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause = pause.total_seconds()
        self._clock = clock
        self._open = False
        self._next_trial = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the last real call failed."""
        return self._open

    def allow(self) -> bool:
        """Whether a call may go to the store now; when open, true once per pause (the trial)."""
        if not self._open:
            return True
        now = self._clock()
        if now < self._next_trial:
            return False
        self._next_trial = now + self._pause
        return True

    def succeeded(self) -> None:
        """A real call worked: close."""
        self._open = False

    def failed(self) -> None:
        """A real call failed: open, or stay open until the next trial."""
        self._open = True
        self._next_trial = self._clock() + self._pause
