"""What this package raises. None carries internals: no URL, no SQL, no server's words."""

from datetime import timedelta


class HistoryError(Exception):
    """Root of what this package raises."""


class HistoryUnavailable(HistoryError):
    """The database did not answer in time, or its tables are missing. Temporary: HTTP 503 with Retry-After."""

    def __init__(self, what: str, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(what)
        self.retry_after = retry_after


class Foreign(HistoryError):
    """Database and events are not one history: a wrong backup, or a store that lost its memory. A person must act."""


class ChaosForbidden(HistoryError):
    """The chaos switch is off in this stack (NIGHTMAIL_CHAOS): HTTP 403."""


class ChaosInvalid(HistoryError, ValueError):
    """No such mode, or a time outside 1..3600 seconds: HTTP 422."""
