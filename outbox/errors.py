"""What the outbox raises. Each class says what the caller should answer; none carries internals to a client."""

from datetime import timedelta

from redis.exceptions import ResponseError


class OutboxError(Exception):
    """Root of what this package raises."""


class Unavailable(OutboxError):
    """Neither the queue nor the journal could take it, or an answer needs a store that is away.

    Temporary by definition: HTTP 503 with Retry-After, SMTP 451 4.3.0.
    """

    def __init__(self, what: str, retry_after: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(what)
        self.retry_after = retry_after


class Full(Unavailable):
    """A disk or the queue's memory is below its floor: HTTP 507 with Retry-After, SMTP 452 4.3.1."""

    def __init__(self, what: str, retry_after: timedelta = timedelta(seconds=5)) -> None:
        super().__init__(what, retry_after)


class Overloaded(Unavailable):
    """More comes than this process can take: HTTP 429 with Retry-After, SMTP 451 4.3.2."""


class TooLarge(OutboxError):
    """The messages of one request weigh more together than one record may: HTTP 413."""


class IdempotencyConflict(OutboxError):
    """The key was used within its retention for another request: HTTP 409 invalid_idempotent_request."""


class KeyUnknown(OutboxError):
    """No such API key, and the policy is fresh enough to say so: HTTP 401, SMTP 535 5.7.8."""


class QueueLost(OutboxError, ResponseError):
    """The queue is not the one this machine remembers: emptied, or restored from an old file. Nothing was done.

    A store error like any other: accepting goes on in the journal, and delivering waits for `nightmail rebuild queue`.
    """


class ObjectsUnavailable(OutboxError):
    """The archive, or the store of large contents, cannot be written or read now.

    Nothing is lost: the queue keeps what is not archived, the journal what is not in the queue.
    """


class BlobLost(OutboxError):
    """A large content is nowhere, or nowhere as it was accepted: no store, and no journal of this machine, has it."""


class Gap(OutboxError):
    """Events are missing between two numbers: an alarm, never a silent skip."""

    def __init__(self, expected: int, found: int | None = None, *, because: str = "") -> None:
        reason = f", the next one is {found}" if found else ""
        super().__init__(f"event {expected} is missing{reason}" + (f": {because}" if because else ""))
        self.expected = expected
        self.found = found
