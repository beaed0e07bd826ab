"""Who is asking: the API key of a request, looked up in memory, counted against its rate, held to its permission."""

from datetime import timedelta
from typing import Any

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.types import Scope

from api.errors import ApiError, invalid
from api.reading import field
from outbox.errors import KeyUnknown
from outbox.policy import ApiKey, Permission, Policy
from outbox.ratelimit import RateLimiter

_LONGEST_TOKEN = 256


class KeyGuard(SecurityBase):
    """A dependency that gives the request's key or refuses. Asked before the body is read."""

    def __init__(self, policy: Policy, ratelimiter: RateLimiter | None, *, full_access: bool) -> None:
        """Without a `ratelimiter` nothing is counted: the control API stands behind the send API, which counts."""
        self.model = HTTPBearer(description="An API key: `Authorization: Bearer re_...`")
        self.scheme_name = "ApiKey"
        self._policy = policy
        self._ratelimiter = ratelimiter
        self._full_access = full_access

    async def __call__(self, request: Request) -> ApiKey:
        """The key, which may do what is asked."""
        return self.key_of(request.scope)

    def key_of(self, scope: Scope) -> ApiKey:
        """The same, where there is no dependency."""
        facts = scope["facts"]
        try:
            key = self._policy.authenticate(_token(scope))
        except (ApiError, KeyUnknown) as refusal:
            # Guesses are counted by address, so that they cannot use up the rate of a key.
            self._count(facts, f"address {scope['client'][0] if scope['client'] else ''}")
            if isinstance(refusal, KeyUnknown):
                raise invalid("API key is invalid", status=401) from refusal
            raise
        facts["key"] = key.id
        self._count(facts, key.id, key.rate_limit)
        if self._full_access and key.permission is not Permission.FULL_ACCESS:
            raise ApiError(401, "restricted_api_key", "This API key is restricted to only send emails")
        return key

    def _count(self, facts: dict[str, Any], who: str, limit: int | None = None) -> None:
        if self._ratelimiter is None:
            return
        facts["rate"] = rate = self._ratelimiter.take(who, limit)
        if not rate.allowed:
            raise ApiError(
                429,
                "rate_limit_exceeded",
                f"Too many requests. You can only make {rate.limit} requests per second. See rate limit response "
                "headers for more information. Or contact support to increase rate limit.",
                retry_after=timedelta(seconds=rate.reset_seconds),
            )


def _token(scope: Scope) -> str:
    scheme, _, token = (field(scope, b"authorization") or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise ApiError(401, "missing_api_key", "Missing API key in the authorization header.")
    return token[:_LONGEST_TOKEN]
