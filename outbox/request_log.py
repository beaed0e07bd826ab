"""The last requests to the API, in a ring in the queue that all processes share. Never on the way of a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import orjson
from redis.asyncio import Redis

from runtime.clock import from_ms, to_ms
from runtime.settings import Settings

_LOW = 62  # bits of an id below the variant


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request. `answer` is the JSON of a refusal, None for the rest: answers may hold secrets."""

    at: datetime
    method: str
    endpoint: str  # the path, without a query
    status: int
    user_agent: str | None
    answer: dict[str, Any] | None
    id: str = ""

    def to_json(self) -> bytes:
        """The form in the ring."""
        return orjson.dumps([to_ms(self.at), self.method, self.endpoint, self.status, self.user_agent, self.answer])

    @classmethod
    def read(cls, place: bytes, value: bytes) -> Self:
        """From the ring."""
        at, method, endpoint, status, user_agent, answer = orjson.loads(value)
        return cls(from_ms(at), method, endpoint, status, user_agent, answer, _id_of(place))


class RequestLog:
    """Appends to the ring and reads it, newest first."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._ring = f"{{{settings.queue_prefix}}}:requests"
        self._keep = settings.request_log_keep

    async def append(self, requests: Sequence[LoggedRequest]) -> None:
        """Put them in, in one round trip; the oldest leave. Raises StoreError."""
        pipe = self._redis.pipeline(transaction=False)
        for request in requests:
            pipe.xadd(self._ring, {"r": request.to_json()}, maxlen=self._keep, approximate=True)
        await pipe.execute()

    async def page(self, *, limit: int, after: str | None = None, before: str | None = None) -> list[LoggedRequest]:
        """Up to `limit`: the newest, those older than the id `after`, or the ones next newer than `before`."""
        found: Any
        if before is not None:
            found = await self._redis.xrange(self._ring, f"({_place_of(before)}", "+", count=limit)
            found.reverse()
        else:
            top = "+" if after is None else f"({_place_of(after)}"
            found = await self._redis.xrevrange(self._ring, top, "-", count=limit)
        return [LoggedRequest.read(place, fields[b"r"]) for place, fields in found]

    async def find(self, request_id: str) -> LoggedRequest | None:
        """One of them."""
        place = _place_of(request_id)
        found: Any = await self._redis.xrange(self._ring, place, place)
        return next((LoggedRequest.read(at, fields[b"r"]) for at, fields in found), None)


def _id_of(place: bytes) -> str:
    """A place in the ring (`ms-sequence`) as a UUID of version 7 (RFC 9562), and nothing is lost of it."""
    ms, _, sequence = place.partition(b"-")
    return str(UUID(int=int(ms) << 80 | 7 << 76 | 2 << _LOW | int(sequence)))


def _place_of(request_id: str) -> str:
    number = UUID(request_id).int
    return f"{number >> 80}-{number & ((1 << _LOW) - 1)}"
