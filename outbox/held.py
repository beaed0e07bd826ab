"""Deliveries that were put aside for a person: which, why, and back to work. Reads the queue alone."""

from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

from redis.asyncio import Redis

from outbox.message import Message
from runtime.clock import from_ms
from runtime.settings import Settings

_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Held:
    """One of them. `leases_lost`: how often whoever sent it was gone before it was done, which is why it is held."""

    delivery_id: str
    message: Message
    lane: str
    recipients: tuple[str, ...]
    since: datetime
    leases_lost: int
    attempts: int

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "delivery": self.delivery_id,
            "id": self.message.id,
            "subject": self.message.subject,
            "lane": self.lane,
            "recipients": self.recipients,
            "since": self.since.isoformat(),
            "leases_lost": self.leases_lost,
            "attempts": self.attempts,
        }


async def held(redis: Redis, settings: Settings) -> list[Held]:
    """All of them, the longest held first."""
    prefix = f"{{{settings.queue_prefix}}}"
    found: list[Held] = []
    for start in count(0, _AT_ONCE):
        rows: Any = await redis.zrange(f"{prefix}:held", start, start + _AT_ONCE - 1, withscores=True)
        pipe = redis.pipeline(transaction=False)
        for delivery_id, _ in rows:
            message_id, _, k = delivery_id.decode().rpartition("/")
            pipe.hmget(
                f"{prefix}:m:{message_id}", "meta", *(f"{name}:{k}" for name in ("lane", "to", "lost", "attempts"))
            )
        replies = await pipe.execute()
        both = zip(rows, replies, strict=True)
        found += [_held(delivery.decode(), since, fields) for (delivery, since), fields in both if fields[0]]
        if len(rows) < _AT_ONCE:
            break
    return found


def _held(delivery_id: str, since: float, fields: list[bytes | None]) -> Held:
    meta, lane, to, lost, attempts = (field or b"" for field in fields)
    message = Message.from_json(meta)
    recipients = tuple(message.recipients[int(at)].address for at in to.split(b","))
    return Held(delivery_id, message, lane.decode(), recipients, from_ms(since), int(lost or 0), int(attempts or 0))
