"""A queue that answers and is ill: full, read-only, busy, loading, unable to save. The journal takes it, once."""

import asyncio
import os
import shutil
import threading
from contextlib import contextmanager

import pytest
import redis
from redis.exceptions import RedisError

from outbox.reinject import LAG, REINJECTED, UNCONFIRMED
from runtime.clock import now
from tests.fixtures.acceptor import an_acceptor
from tests.fixtures.mail import a_submission
from tests.fixtures.waiting import until, until_sync

MAILS = 5


@contextmanager
def full(server, admin):
    """Over maxmemory, which the floor is told to leave to the journal."""
    admin.config_set("maxmemory", "1mb")
    yield
    admin.config_set("maxmemory", "0")


@contextmanager
def read_only(server, admin):
    """Demoted to a replica, as after a failover."""
    admin.replicaof("127.0.0.1", 1)
    yield
    admin.replicaof("NO", "ONE")


@contextmanager
def without_replicas(server, admin):
    """A primary that was told to write only with replicas."""
    admin.config_set("min-replicas-to-write", "1")
    yield
    admin.config_set("min-replicas-to-write", "0")


@contextmanager
def unable_to_save(server, admin):
    """MISCONF: a snapshot failed, for its folder is gone, and writes are refused until one works."""
    admin.config_set("save", "3600 1")
    shutil.rmtree(server.folder)
    admin.bgsave()
    until_sync(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
    yield
    admin.config_set("stop-writes-on-bgsave-error", "no")


def is_busy(admin):
    try:
        return not admin.ping()
    except RedisError:
        return True


@contextmanager
def busy(server, admin):
    """An administrator's endless script; everyone else hears BUSY."""
    admin.config_set("busy-reply-threshold", "1")

    def occupy():
        with redis.Redis(port=server.port) as client, pytest.raises(RedisError):
            client.eval("while true do end", 0)

    thread = threading.Thread(target=occupy)
    thread.start()
    until_sync(lambda: is_busy(admin))
    yield
    admin.script_kill()
    thread.join()


def script_calls(admin):
    """How many scripts the queue was asked to run; one that is busy answers nothing."""
    try:
        return admin.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    except RedisError:
        return 0


@pytest.fixture
def own_valkey(own_valkey):
    server, settings = own_valkey
    return server, settings.model_copy(update={"queue_memory_share": 1.0})


async def claimed(outbox):
    return [c.message.id for c in await outbox.claim("one.test", channel="c", limit=10_000, now=now())]


@pytest.mark.parametrize("illness", [full, read_only, without_replicas, unable_to_save, busy])
async def test_an_ill_queue_refuses_nobody(own_valkey, illness):
    """Each accept is answered within a moment, and the healthy queue has each message once."""
    server, settings = own_valkey
    async with an_acceptor(settings) as (acceptor, outbox):
        taken = [*(await acceptor.accept([a_submission(now=now())])).ids]
        with server.client() as admin, illness(server, admin):
            async with asyncio.timeout(2):
                for _ in range(MAILS):
                    taken += (await acceptor.accept([a_submission(now=now())])).ids
            assert UNCONFIRMED.labels("journal")._value.get() > 0 or acceptor._reinjector.segments
            await until(lambda: acceptor._inlet.is_open)
            calls = script_calls(admin)
            for _ in range(20 * MAILS):
                taken += (await acceptor.accept([a_submission(now=now())])).ids
            assert script_calls(admin) - calls < 10 * MAILS, "only the trials ask the ill queue"
            assert acceptor._inlet.is_open, "and none of them works"
        await until(lambda: not acceptor._reinjector.segments)
        assert sorted(await claimed(outbox)) == sorted(taken)


async def test_a_queue_that_loads_is_away(own_valkey, monkeypatch):
    """While a restarted server reads its file it says LOADING to everything, and nobody waits for that."""
    server, settings = own_valkey
    with server.client() as admin:
        pipe = admin.pipeline()
        for at in range(20_000):
            pipe.set(f"ballast:{at}", os.urandom(64))
        pipe.execute()
    async with an_acceptor(settings) as (acceptor, outbox):
        taken = [*(await acceptor.accept([a_submission(now=now())])).ids]
        server.kill()
        taken += (await acceptor.accept([a_submission(now=now())])).ids
        assert acceptor._inlet.is_open
        monkeypatch.setattr(server, "_wait_until_answers", lambda: None)
        server.start()
        while acceptor._inlet.is_open:
            async with asyncio.timeout(5):
                taken += (await acceptor.accept([a_submission(now=now())])).ids
        await until(lambda: not acceptor._reinjector.segments)
        assert sorted(await claimed(outbox)) == sorted(taken)


async def test_the_breaker_opens_within_its_time(own_valkey):
    """Hung in mid-flight, the queue costs the first accept its timeout and the others nothing."""
    server, settings = own_valkey
    async with an_acceptor(settings) as (acceptor, outbox):
        await acceptor.accept([a_submission(now=now())])
        server.pause()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await acceptor.accept([a_submission(now=now())])
        assert 0.2 < loop.time() - began < 0.6, "the timeout of 250 ms, and one fdatasync"
        assert acceptor._inlet.is_open
        await until(lambda: UNCONFIRMED.labels("journal")._value.get() > 0)
        server.resume()
        await until(lambda: not acceptor._inlet.is_open, seconds=2)
        await until(lambda: not acceptor._reinjector.segments)
        assert LAG.labels("journal")._value.get() == 0
        assert len(await claimed(outbox)) == 2


async def test_the_way_for_bad_days_is_walked_on_good_ones(settings):
    """One accept in so many goes by the journal alone, and is in the queue before its client can ask for it."""
    before = REINJECTED._value.get()
    async with an_acceptor(settings.model_copy(update={"journal_way_every": 4})) as (acceptor, outbox):
        for _ in range(8):
            (message_id,) = (await acceptor.accept([a_submission(now=now())])).ids
            assert await outbox.find(message_id) is not None
    assert REINJECTED._value.get() - before == 2


async def test_the_trial_of_the_journal_harms_nobody(settings, monkeypatch):
    """With the journal broken, the accept whose turn it was goes by the queue like the others."""
    async with an_acceptor(settings.model_copy(update={"journal_way_every": 1})) as (acceptor, outbox):

        def broken(*_):
            raise OSError(28, "full")

        monkeypatch.setattr(acceptor._journal, "_put", broken)
        (message_id,) = (await acceptor.accept([a_submission(now=now())])).ids
        assert await outbox.find(message_id) is not None
