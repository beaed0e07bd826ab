"""What an operation on the queue costs does not grow with what is queued: commands are counted, not time."""

import pytest

from outbox.backlog import backlog
from outbox.queue import Cancel, Outbox
from outbox.receipt import Receipt
from outbox.stream import EventSource
from runtime.connections import redis_async, redis_sync
from tests.fixtures.mail import NOON, a_submission, an_attempt, an_entry

DEPTHS = (200, 6_000)
LANES = 4


@pytest.fixture
async def redis(settings):
    client = redis_async(settings, timeout=10)
    yield client
    await client.aclose()


async def commands(redis):
    """How often each command ran so far, in scripts and outside."""
    stats = await redis.info("commandstats")
    return {name: of["calls"] for name, of in stats.items() if name not in {"cmdstat_info", "cmdstat_config|resetstat"}}


async def fill(outbox, count):
    ids = []
    for start in range(0, count, 100):
        mails = [a_submission(f"{n}@lane{n % LANES}.test", now=NOON) for n in range(start, start + 100)]
        await outbox.append([an_entry(mail).arguments(NOON) for mail in mails])
        ids += [mail.message.id for mail in mails]
    return ids


async def test_no_operation_looks_at_more_than_it_moves(redis, settings):
    """The operations run the same commands with 200 mails waiting and with 6,000.

    Claim, settle, cancel, the look at due lanes, the backlog, and what the recorder reads for a batch.
    """
    outbox, blocking = Outbox(redis, settings), redis_sync(settings)
    source = EventSource(blocking, settings)
    source.newest()  # connects, as does the next line
    await outbox.lanes(now=NOON, limit=1)
    costs = []
    queued = 0
    for depth in DEPTHS:
        ids = await fill(outbox, depth - queued)
        queued = depth
        before = await commands(redis)
        claims = await outbox.claim("lane1.test", channel="w#1", limit=20, now=NOON)
        receipts = [Receipt(claim, an_attempt(claim), NOON, None) for claim in claims]
        assert await outbox.settle_all(receipts, worker="w") == [True] * 20
        assert await outbox.cancel(ids[-1], now=NOON) is Cancel.CANCELLED
        assert len((await outbox.lanes(now=NOON, limit=50))[0]) == LANES
        assert (await backlog(redis, settings, now=NOON)).depth >= depth - 21
        assert len(source.read(100, 50)) == 50
        after = await commands(redis)
        costs.append({name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)})
        await outbox.leave("lane1.test", "w#1")
        queued -= 21
    blocking.close()
    few, many = costs
    few.pop("cmdstat_script|load", None)  # the first call of a script
    few.pop("cmdstat_expire", None)  # the first of a bucket of the flow
    few["cmdstat_evalsha"] = many["cmdstat_evalsha"]
    assert few == many
