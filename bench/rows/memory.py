"""What a waiting mail of 4 KB takes of the queue's memory."""

import time

from redis import Redis

from bench import probes
from bench.figures import Figure, at_most, told
from bench.filling import fill
from bench.plan import Plan, Tell
from bench.running import no_delivery, running
from runtime.connections import redis_sync

ROWS = {"memory": "memory of the queue for a waiting mail of 4 KB"}
(_ROW,) = ROWS

_SIZE = 4096
_MAILS = 20_000
_DOMAINS = tuple(f"d{number}.test" for number in range(50))


def measure(plan: Plan, tell: Tell) -> list[Figure]:
    """Bytes of used_memory by one mail: at once, which counts, and once its event is archived, as in a long backlog."""
    with running(plan) as (stack, sink):
        probes.warm(stack, sink)
        settings = stack.settings()
        with redis_sync(settings) as redis, no_delivery(stack):
            empty = _used(redis)
            fill(settings, _MAILS, domains=_DOMAINS, size=_SIZE)
            fresh = _used(redis)
            probes.archived(stack)
            archived = _used(redis)
    each = [(used - empty) / _MAILS for used in (fresh, archived)]
    tell(f"{_MAILS:,} mails: {each[0]:,.0f} bytes each at once, {each[1]:,.0f} once they are archived")
    return [
        at_most(_ROW, "bytes of memory to bytes of the mail", 1.5, [each[0] / _SIZE]),
        told(_ROW, "a waiting mail", [each[0]], unit="bytes"),
        told(_ROW, "the same, once it is archived", [each[1]], unit="bytes"),
    ]


def _used(redis: Redis) -> int:
    """Bytes of data, after the server has freed what it frees in the background."""
    time.sleep(0.5)
    info = redis.info("memory")
    return int(info["used_memory"]) - int(info["mem_not_counted_for_evict"])
