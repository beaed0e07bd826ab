"""Forgets ended messages, a while after they ended and once all their events are archived: a chore, no database."""

from datetime import datetime
from typing import Any

from redis import Redis

from outbox.scripts import source
from outbox.tail import Tail
from runtime.clock import to_ms
from runtime.settings import Settings

_AT_ONCE = 500


def retire_once(redis: Redis, settings: Settings, *, now: datetime) -> int:
    """Forget what may be forgotten now; how many messages that were."""
    archived = Tail(redis, settings.queue_prefix).archived()
    cutoff = to_ms(now - settings.recent_retention)
    text, _ = source("retire")
    total = 0
    while True:
        reply: Any = redis.eval(text, 1, f"{{{settings.queue_prefix}}}", cutoff, archived, _AT_ONCE)
        gone = int(reply)
        total += gone
        if gone < _AT_ONCE:
            return total
