"""The parts that both ways in share, HTTP and SMTP: queue, journal, policy, acceptor."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from outbox.accept import Acceptor
from outbox.floors import Floors
from outbox.inlet import Inlet
from outbox.journal import own_journal
from outbox.policy import Policy
from outbox.queue import Outbox
from outbox.ratelimit import RateLimiter
from runtime.connections import redis_async
from runtime.secret import load_secret
from runtime.settings import Settings

# Seconds for which a thread that composes a large mail may keep the interpreter while the event loop waits for it; 5 ms
# by default, and the loop waits several times for each small mail.
_SWITCH = 0.0005


@dataclass(frozen=True, slots=True)
class Parts:
    """Started parts of a process that accepts mail."""

    redis: Redis
    outbox: Outbox
    policy: Policy
    acceptor: Acceptor
    ratelimiter: RateLimiter


@asynccontextmanager
async def accepting(settings: Settings, process: str) -> AsyncIterator[Parts]:
    """Start the parts, and stop them in the opposite order."""
    sys.setswitchinterval(_SWITCH)
    redis = redis_async(settings, timeout=settings.redis_timeout.total_seconds())
    outbox = Outbox(redis, settings)
    floors = Floors(redis, settings)
    inlet = Inlet(outbox, redis, timeout=settings.redis_timeout, has_room=floors.has_room)
    journal, _ = own_journal(settings.data_dir / "journal", process)
    acceptor = Acceptor(inlet, journal, settings, secret=load_secret(settings), floors=floors)
    policy = Policy(redis, settings)
    await policy.start()
    await acceptor.start()
    try:
        yield Parts(redis, outbox, policy, acceptor, RateLimiter(settings.rate_limit))
    finally:
        await acceptor.stop()
        await inlet.stop()
        await policy.stop()
        await redis.aclose()
