"""What an ended mail costs in the queue while the database is down.

A real Valkey; mails of 2 KB are accepted and delivered with nobody recording, the archive chore runs beside as in
production (every 2 s, and on till nothing is left), and INFO memory tells the cost at each stage.
"""

import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr
from redis import Redis

from bench.figures import Figure, told
from bench.plan import Plan, Tell
from outbox.archiving import archive_once
from outbox.queue import Outbox
from outbox.retire import compact, retire_once
from runtime.connections import redis_async, redis_sync
from runtime.settings import Settings
from tests.fixtures.mail import a_submission, an_attempt, an_entry
from tests.fixtures.valkey import ValkeyServer

ROWS = {"ended": "memory of an ended mail of 2 KB while nobody records"}
(_ROW,) = ROWS

_MAILS = 20_000
_BETWEEN_CHORES = 2_500  # mails; the chore runs every two seconds
_GROUP = 100
_CONTENT = b"Subject: Hello\r\n\r\n" + b"A line of a letter that nobody reads.\r\n" * 50


def used(redis: Redis) -> int:
    """Bytes of data, after the server has freed what it frees in the background."""
    time.sleep(0.5)
    info = redis.info("memory")
    return int(info["used_memory"]) - int(info["mem_not_counted_for_evict"])


async def deliver(settings: Settings, mails: int, now: datetime) -> None:
    """Accept and deliver `mails`, in groups."""
    redis = redis_async(settings, timeout=5)
    outbox = Outbox(redis, settings)
    for _ in range(mails // _GROUP):
        group = [a_submission("ann@one.test", now=now, content=_CONTENT) for _ in range(_GROUP)]
        await outbox.append([an_entry(mail).arguments(now) for mail in group])
        for claim in await outbox.claim("one.test", channel="w#1", limit=_GROUP, now=now):
            attempt = an_attempt(claim, code=250, status="2.0.0", text="OK queued as 4Cx2")
            await outbox.settle(claim, attempt, worker="w", now=now, next_attempt_at=None)
    await redis.aclose()


def measure(_: Plan, tell: Tell) -> list[Figure]:
    """Start a server, measure, stop it."""
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(Path(folder) / "valkey") as server:
        settings = Settings(data_dir=Path(folder) / "data", redis_url=SecretStr(server.url()))
        with redis_sync(settings) as redis:
            return _stages(redis, settings, tell)


def _stages(redis: Redis, settings: Settings, tell: Tell) -> list[Figure]:
    now = datetime.now(UTC)
    late = now + timedelta(hours=1)
    asyncio.run(deliver(settings, _GROUP, now))  # the first mails make the fixed keys
    empty = used(redis)
    peak = 0
    for _ in range(_MAILS // _BETWEEN_CHORES):
        asyncio.run(deliver(settings, _BETWEEN_CHORES, now))
        peak = max(peak, used(redis))
        while archive_once(redis, settings, now=now):
            pass
    before = used(redis)
    while archive_once(redis, settings, now=late):
        pass
    compact(redis, settings)
    archived = used(redis)
    started = time.perf_counter()
    forgotten = retire_once(redis, settings, now=late)
    tell(f"forgetting {forgotten:,} mails took {time.perf_counter() - started:.1f} s")
    stream = int(redis.memory_usage(f"{{{settings.queue_prefix}}}:events", samples=0) or 0)
    stages = {
        "highest before a run of the chore": peak,
        "ended, the newest not yet archived": before,
        "ended and archived": archived,
        "  less the events that always stay": archived - stream,
        "forgotten": used(redis),
        "  less those events": used(redis) - stream,
    }
    return [told(_ROW, what, [(bytes_ - empty) / _MAILS], unit="bytes") for what, bytes_ in stages.items()]
