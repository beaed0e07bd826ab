"""The Idempotency-Key header: its form, and the fingerprint that tells a repeat from another request."""

import hashlib
from typing import Any

import orjson
from starlette.types import Scope

from api.errors import ApiError, invalid
from api.reading import field
from outbox.ids import Idempotency

_LONGEST = 256


def read_key(scope: Scope) -> str | None:
    """The key of the request; None without one. Raises ApiError 400 when it is empty or too long."""
    key = field(scope, b"idempotency-key")
    if key is not None and not 1 <= len(key) <= _LONGEST:
        raise ApiError(
            400, "invalid_idempotency_key", "Idempotency keys, if present, must have between 1 and 256 characters."
        )
    return key


def identify(key: str | None, *, scope: str, parsed: Any) -> Idempotency | None:
    """The key with its scope and the hash of the request's JSON, whatever the order of its fields.

    Raises ApiError 400 when it is nested beyond reason: less can be written than read.
    """
    if key is None:
        return None
    try:
        normal = orjson.dumps(parsed, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as garbage:
        raise invalid("The request body is nested too deeply.", status=400) from garbage
    return Idempotency(scope, key, hashlib.sha256(normal).hexdigest())
