"""What an ended mail costs in the queue while the database is down: `python -m bench.ended [mails]`.

A real Valkey; mails of 2 KB are accepted and delivered with nobody recording, the archive chore runs beside as in
production (every 2 s, and on till nothing is left), and INFO memory tells the cost at each stage.
"""

import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import SecretStr
from redis import Redis

from outbox.archive import archive_once
from outbox.queue import Outbox
from outbox.retire import compact, retire_once
from runtime.connections import redis_async, redis_sync
from runtime.settings import Settings
from tests.fixtures.mail import a_submission, an_attempt, an_entry
from tests.fixtures.valkey import ValkeyServer

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


def measure(settings: Settings, mails: int) -> None:
    """Print the stages."""
    redis = redis_sync(settings)
    now = datetime.now(UTC)
    late = now + timedelta(hours=1)
    asyncio.run(deliver(settings, _GROUP, now))  # the first mails make the fixed keys
    empty = used(redis)
    begun = time.perf_counter()
    peak = 0
    for _ in range(max(1, mails // 2_500)):
        asyncio.run(deliver(settings, 2_500, now))
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
    took = time.perf_counter() - started
    stream = int(redis.memory_usage(f"{{{settings.queue_prefix}}}:events", samples=0) or 0)
    say(f"{mails:,} mails of {len(_CONTENT):,} bytes, {started - begun:.0f} s")
    say(f"highest before a run of the chore:    {(peak - empty) / mails:7,.0f} bytes a mail")
    say(f"ended, the newest not yet archived:   {(before - empty) / mails:7,.0f}")
    say(f"ended and archived:                   {(archived - empty) / mails:7,.0f}")
    say(f"  less the events that always stay:   {(archived - empty - stream) / mails:7,.0f}")
    say(f"forgotten:                            {(used(redis) - empty) / mails:7,.0f}")
    say(f"  less the events that always stay:   {(used(redis) - empty - stream) / mails:7,.0f}")
    say(f"events that always stay: {stream:,} bytes; forgetting {forgotten:,} mails took {took:.1f} s")
    redis.close()


def say(words: str) -> None:
    """For people."""
    print(words)  # noqa: T201


def main() -> None:
    """Start a server, measure, stop it."""
    mails = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(Path(folder) / "valkey") as server:
        measure(Settings(data_dir=Path(folder) / "data", redis_url=SecretStr(server.url())), mails)


if __name__ == "__main__":
    main()
