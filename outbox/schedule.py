"""When a deferred delivery is tried again: doubling delays with jitter, until too old (RFC 5321 section 4.5.4.1)."""

from datetime import datetime, timedelta

from runtime.settings import Settings

_JITTER = 0.2  # up to this share is taken off, so that what failed together is not tried together


def next_attempt_at(
    *, attempts: int, created_at: datetime, now: datetime, jitter: float, settings: Settings
) -> datetime | None:
    """The next try after attempt number `attempts` (from 1) was transient; None when the message is too old (X.4.7).

    `jitter` is in [0, 1). The last try is moved forward to the moment of expiry, never beyond it.
    """
    expires_at = created_at + settings.expire_after
    if now >= expires_at:
        return None
    doublings = min(attempts - 1, 32)
    delay: timedelta = min(settings.retry_first * 2**doublings, settings.retry_max)
    return min(now + delay * (1 - _JITTER * jitter), max(expires_at, now + timedelta(seconds=1)))
