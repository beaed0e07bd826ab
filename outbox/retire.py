"""Takes ended messages out of the queue behind the archive: a chore, no database.

First what is large: once all events of an ended message are archived, its content goes, and of the message a brief
remains that finds it in the archive again (outbox/recall.py). A while later the brief goes too.
"""

from datetime import datetime

from redis import Redis

from outbox.scripts import run
from outbox.tail import Tail
from runtime.clock import to_ms
from runtime.settings import Settings

_AT_ONCE = 40  # messages of one call: everybody else waits for it


def compact(redis: Redis, settings: Settings) -> int:
    """Compact what may be now; how many messages that were. Raises QueueLost."""
    archived = Tail(redis, settings.queue_prefix).archived()
    total = skip = 0
    while True:
        reply = run(redis, settings, "compact", archived, skip, _AT_ONCE)
        done, seen = int(reply[0]), int(reply[1])
        total += done
        skip += seen - done
        # They ended about in the order of their events, so behind many that must wait the others must wait too.
        if seen < _AT_ONCE or not done:
            return total


def retire_once(redis: Redis, settings: Settings, *, now: datetime) -> int:
    """Forget what may be forgotten now; how many messages that were. Raises QueueLost."""
    compact(redis, settings)
    cutoff = to_ms(now - settings.recent_retention)
    total = 0
    while True:
        gone = int(run(redis, settings, "retire", cutoff, _AT_ONCE))
        total += gone
        if gone < _AT_ONCE:
            return total
