"""Worker and ticker as real processes: RQ's ticks lend the drain its time, and no signal loses mail."""

import asyncio
import signal
from datetime import timedelta

import pytest
import redis
from pydantic import SecretStr
from rq import Worker

from outbox.queue import Outbox
from outbox.states import State
from runtime import clock
from runtime.connections import redis_async, redis_sync
from tests.fixtures.mail import a_submission, an_entry
from tests.fixtures.next_hop import NextHop
from tests.fixtures.waiting import until
from tests.fixtures.worker_process import CHORE, DRAIN, TICKER, running
from worker.ticker import Ticker
from worker.ticks import CHORES, queue


@pytest.fixture
async def hop():
    async with NextHop() as hop:
        yield hop


@pytest.fixture
def placed(settings, hop):
    return settings.model_copy(update={"mailbox_smtp_port": hop.port, "drain_slice": timedelta(seconds=0.3)})


@pytest.fixture
async def put(placed):
    client = redis_async(placed, timeout=5)
    outbox = Outbox(client, placed)

    async def put(count):
        ids = []
        for n in range(count):
            mail = a_submission(f"{n}@lane{n % 3}.test", now=clock.now())
            await outbox.append([an_entry(mail).arguments(clock.now())])
            ids.append(mail.message.id)

        async def delivered():
            return all([(await outbox.find(i)).states == (State.DELIVERED,) for i in ids])

        return delivered

    yield put
    await client.aclose()


async def test_ticks_deliver_mail_over_many_slices(placed, hop, put, tmp_path):
    """Ticker and worker together deliver, slice after slice, over the same connections; SIGTERM ends both cleanly."""
    log = tmp_path / "log"
    with running(TICKER, placed, log) as ticker, running(DRAIN, placed, log) as worker:
        for _ in range(3):
            delivered = await put(30)
            await until(delivered)
        await until(lambda: "ticker.started" in log.read_text())  # the worker may have done it all without
        for process in (ticker, worker):
            process.send_signal(signal.SIGTERM)
        for process in (ticker, worker):
            assert await asyncio.to_thread(process.wait, 10) == 0, log.read_text()
    assert len(hop.received) == 90
    assert "rror" not in log.read_text()


async def test_a_killed_worker_comes_back_under_its_name(placed, hop, put, tmp_path):
    """After kill -9 the next life takes over name, journal and leases at once: nothing is lost."""
    log = tmp_path / "log"
    batches = []
    with running(TICKER, placed, log):
        for _ in range(3):
            with running(DRAIN, placed, log) as worker:
                seen = len(hop.received)
                batches.append(await put(60))
                await until(lambda: len(hop.received) > seen + 10)  # noqa: B023  (used at once)
                worker.kill()
                await asyncio.to_thread(worker.wait)
        with running(DRAIN, placed, log):
            for delivered in batches:
                await until(delivered)
    assert 180 <= len(hop.received) <= 189  # at most one dot in flight on each of three connections at each kill


async def test_an_idle_worker_stops_at_once(placed, tmp_path):
    """SIGTERM reaches a worker that waits for a tick."""
    log = tmp_path / "log"
    with running(DRAIN, placed, log) as worker, redis.Redis.from_url(placed.redis_url.get_secret_value()) as client:
        await until(lambda: Worker.count(connection=client) == 1)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 10) == 0, log.read_text()


def test_the_ticker_never_piles_up(settings):
    """However often it beats, a queue nobody works on holds one tick per worker, and each chore at most once or so."""
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        now = iter(range(0, 10_000, 10))
        ticker = Ticker(client, settings.model_copy(update={"workers": 2}), clock=lambda: next(now))
        for _ in range(10):
            ticker.beat()
        assert queue(client, settings, "drain").count == 2
        assert queue(client, settings, "chores").count == len(CHORES)
        assert all(b"\x80" not in client.hget(key, "data") for key in client.keys("rq:job:*"))  # no pickle


def test_the_ticker_survives_the_queue(settings):
    """A queue that is away is no reason to end."""
    nowhere = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    with redis_sync(nowhere) as nobody:
        Ticker(nobody, settings).beat()


async def test_chores_archive_and_retire(placed, tmp_path):
    """The chores' ticks run, and leave nothing failed."""
    log = tmp_path / "log"
    with redis.Redis.from_url(placed.redis_url.get_secret_value()) as client:
        chores = queue(client, placed, "chores")
        Ticker(client, placed).beat()
        assert chores.count == len(CHORES)
        with running(CHORE, placed, log):
            await until(lambda: chores.count == 0 and chores.started_job_registry.count == 0)
        assert chores.failed_job_registry.count == 0, log.read_text()


async def test_a_worker_that_waits_for_the_queue_can_be_stopped(placed, tmp_path):
    """SIGTERM ends a worker that never reached the queue."""
    log = tmp_path / "log"
    nowhere = placed.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    with running(DRAIN, nowhere, log) as worker:
        await until(lambda: log.exists() and "queue.lost" in log.read_text())
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 10) == 0, log.read_text()
