"""Message ids: UUID text. New ones sort by time; those of an idempotent request are derived from its key.

A derived id needs no lookup: every process, the journal and a second node answer the same id for the same key.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from datetime import datetime

from runtime.clock import to_ms

_DAY_MS = 86_400_000
_RANDOM = 10  # octets of an id that are not its time


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The client's key, its scope (`POST /emails`, `POST /emails/batch`, `SMTP`), and a hash of the whole request."""

    scope: str
    key: str
    fingerprint: str

    def hash(self) -> str:
        """Name of the key's record in the queue; the key itself is the client's and is not stored."""
        return hashlib.sha256(f"{self.scope}\0{self.key}".encode()).hexdigest()


def day_of(now: datetime) -> int:
    """The UTC day that goes into a derived id, so that a key can serve again once it was forgotten."""
    return to_ms(now) // _DAY_MS


def new_id(now: datetime) -> str:
    """A UUID of version 7 (RFC 9562 section 5.7): 48 bits of milliseconds, then random bits."""
    return new_ids(now, 1)[0]


def new_ids(now: datetime, count: int) -> tuple[str, ...]:
    """Several of one moment, in the order in which they sort: what comes together is listed as it came."""
    moment, random = to_ms(now).to_bytes(6), os.urandom(_RANDOM * count)
    tails = [random[at : at + _RANDOM] for at in range(0, len(random), _RANDOM)]
    return tuple(sorted([_stamped(moment + tail, version=7) for tail in tails]))


def derive_ids(secret: bytes, idempotency: Idempotency, *, day: int, count: int) -> tuple[str, ...]:
    """The ids of a request of `count` messages: UUIDs of version 8 from an HMAC over scope, key, day and place."""

    def one(place: int) -> str:
        text = f"{idempotency.scope}\0{idempotency.key}\0{day}\0{place}"
        digest = hmac.digest(secret, text.encode(), "sha256")
        return _stamped(digest[:16], version=8)

    return tuple(one(place) for place in range(count))


def _stamped(octets: bytes, *, version: int) -> str:
    """The UUID of these 16 octets, six bits of which give way to version and variant (RFC 9562 section 4)."""
    digits = octets.hex()
    variant = "89ab"[octets[8] >> 4 & 0b11]
    return f"{digits[:8]}-{digits[8:12]}-{version}{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
