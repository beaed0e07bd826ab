"""Accepting is durable and goes on while the queue is away."""

import asyncio
import os
from datetime import timedelta

import pytest

from outbox import reinject
from outbox.accept import Idempotency
from outbox.archiving import archive_once
from outbox.confirmed import marked
from outbox.errors import IdempotencyConflict, Unavailable
from outbox.journal import read_segment
from outbox.records import encode
from outbox.remembered import remembered
from outbox.retire import retire_once
from runtime.clock import now as right_now
from runtime.connections import StoreError, redis_sync
from tests.fixtures.acceptor import an_acceptor
from tests.fixtures.mail import NOON, a_submission, an_attempt
from tests.fixtures.waiting import until


def fresh(**fields):
    return a_submission(now=right_now(), **fields)


async def queued(outbox, count):
    """Whether so many messages are there. A connection that the server's death has closed answers once more: no."""
    try:
        return len(await outbox.newest(limit=10_000)) == count
    except StoreError:
        return False


def journalled(settings, kind):
    """The records of a kind in the acceptor's journal, which may be in use."""
    segments = sorted((settings.data_dir / "journal").glob("*.log"))
    return [header for segment in segments for _, header, _ in read_segment(segment) if header["kind"] == kind]


def without_marks(settings):
    """The journal as a power cut leaves it before the marks were on the disk."""
    for segment in (settings.data_dir / "journal").glob("*.log"):
        kept = [(header, blob) for _, header, blob in read_segment(segment) if header["kind"] != "confirmed"]
        segment.write_bytes(b"".join(encode(header, blob) for header, blob in kept))


async def test_accepted_is_in_both_stores(settings):
    """In health the queue and the journal hold every message before the answer, and a mark in the journal says so."""
    async with an_acceptor(settings) as (acceptor, outbox):
        done = await asyncio.gather(*(acceptor.accept([fresh()]) for _ in range(50)))
        kept = [m["id"] for header in journalled(settings, "accepted") for m in header["messages"]]
        assert await queued(outbox, 50)
    ids = {i for accepted in done for i in accepted.ids}
    assert (len(kept), set(kept)) == (50, ids)
    assert {i for header in journalled(settings, "confirmed") for accept in marked(header) for i in accept} == ids


@pytest.mark.parametrize("journal_way_every", [0, 1])
async def test_a_lost_mark_sends_nothing_again(settings, monkeypatch, journal_way_every):
    """A power cut took the marks, and the queue has forgotten the mail since: the archive knows it."""
    settings = settings.model_copy(update={"journal_way_every": journal_way_every, "recent_retention": timedelta(0)})
    async with an_acceptor(settings) as (acceptor, outbox):
        for _ in range(3):
            await acceptor.accept([fresh()])
        for claim in await outbox.claim("one.test", channel="w#1", limit=3, now=right_now()):
            await outbox.settle(claim, an_attempt(claim), worker="w", now=right_now(), next_attempt_at=None)
    later = right_now() + timedelta(minutes=1)
    with redis_sync(settings) as redis:
        assert archive_once(redis, settings, now=later) == 6
        assert retire_once(redis, settings, now=later) == 3
    without_marks(settings)
    told = asyncio.Event()

    async def slowly(*asked, **since):
        await told.wait()
        return await remembered(*asked, **since)

    with monkeypatch.context() as slow:
        slow.setattr(reinject, "remembered", slowly)
        async with an_acceptor(settings) as (acceptor, outbox):  # and serves while the archive is read
            assert acceptor._reinjector.left == 3
            await acceptor.accept([fresh()])
            told.set()
            await until(lambda: acceptor._reinjector.left == 0)
            assert await queued(outbox, 1)
    without_marks(settings)
    for segment in (settings.data_dir / "archive").glob("events-*"):
        segment.unlink()
    async with an_acceptor(settings) as (_, outbox):
        await until(lambda: queued(outbox, 4))  # what nobody remembers is put: rather twice than never


async def test_same_key_sends_once(settings):
    """A thousand concurrent requests with one key are one message and one id."""
    key = Idempotency("POST /emails", "k", "same")
    settings = settings.model_copy(update={"redis_timeout": timedelta(seconds=10)})  # a slow machine is not the subject
    async with an_acceptor(settings) as (acceptor, outbox):
        (minted,) = acceptor.mint(1, key)
        done = await asyncio.gather(*(acceptor.accept([fresh(id=minted)], key) for _ in range(1000)))
        assert {accepted.ids for accepted in done} == {(minted,)}
        assert sum(not accepted.replayed for accepted in done) == 1
        assert await queued(outbox, 1)
        with pytest.raises(IdempotencyConflict):
            await acceptor.accept([fresh()], Idempotency("POST /emails", "k", "other"))


async def test_key_holds_across_midnight(settings):
    """Minted before midnight and accepted after it: a repeat still answers the same id."""
    time = [NOON.replace(hour=23, minute=59, second=59)]
    key = Idempotency("POST /emails", "k", "same")
    async with an_acceptor(settings, now=lambda: time[0]) as (acceptor, _):
        (minted,) = acceptor.mint(1, key)
        time[0] += timedelta(seconds=2)
        assert (await acceptor.accept([fresh(id=minted)], key)).ids == (minted,)
        (minted_again,) = acceptor.mint(1, key)
        assert (await acceptor.accept([fresh(id=minted_again)], key)).ids == (minted,)


async def test_accepting_goes_on_while_the_queue_is_down(own_valkey):
    """Killed, the queue refuses nobody; back, it gets all that the journal took, each once."""
    server, settings = own_valkey
    async with an_acceptor(settings) as (acceptor, outbox):
        await acceptor.accept([fresh()])
        server.kill()
        blind = await asyncio.gather(*(acceptor.accept([fresh()]) for _ in range(200)))
        assert len({accepted.ids for accepted in blind}) == 200
        server.start()
        await until(lambda: queued(outbox, 201))


async def test_hung_queue_costs_one_timeout(own_valkey):
    """A hang is noticed once; what was on its way is put again under the same id and stays one message."""
    server, settings = own_valkey
    async with an_acceptor(settings) as (acceptor, outbox):
        await acceptor.accept([fresh()])
        server.pause()
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(acceptor.accept([fresh()]) for _ in range(20)))
        started = loop.time()
        await asyncio.gather(*(acceptor.accept([fresh()]) for _ in range(20)))
        assert loop.time() - started < settings.redis_timeout.total_seconds(), "the breaker is open, nobody waits"
        server.resume()
        await until(lambda: queued(outbox, 41))
        assert (await outbox.lanes(now=right_now(), limit=5))[0] == ["one.test"]
        assert len(await outbox.claim("one.test", channel="c", limit=100, now=right_now())) == 41


async def test_key_answers_the_same_id_while_blind(own_valkey):
    """Without the queue a repeated key still gives its id, and another body still conflicts."""
    server, settings = own_valkey
    key = Idempotency("POST /emails", "k", "same")
    async with an_acceptor(settings) as (acceptor, outbox):
        server.kill()
        (minted,) = acceptor.mint(1, key)
        first = await acceptor.accept([fresh(id=minted)], key)
        second = await acceptor.accept([fresh(id=minted)], key)
        assert (first.ids, first.replayed) == ((minted,), False)
        assert (second.ids, second.replayed) == ((minted,), True)
        with pytest.raises(IdempotencyConflict):
            await acceptor.accept([fresh()], Idempotency("POST /emails", "k", "other"))
        server.start()
        await until(lambda: queued(outbox, 1))


async def test_a_key_in_mid_air_is_held_against_others(own_valkey):
    """Requests with one key while the queue is away: the same id for the same content, a conflict for another."""
    server, settings = own_valkey
    same, other = Idempotency("POST /emails", "k", "same"), Idempotency("POST /emails", "k", "other")
    async with an_acceptor(settings) as (acceptor, outbox):
        server.kill()
        (minted,) = acceptor.mint(1, same)
        requests = [acceptor.accept([fresh(id=minted)], key) for key in (same, same, other, same)]
        done = await asyncio.gather(*requests, return_exceptions=True)
        assert [one.ids for one in done if not isinstance(one, Exception)] == [(minted,)] * 3
        assert [type(one) for one in done if isinstance(one, Exception)] == [IdempotencyConflict]
        server.start()
        await until(lambda: queued(outbox, 1))


async def test_unconfirmed_accepts_survive_our_own_death(own_valkey):
    """A process that died before the queue came back leaves nothing behind but the journal, and that is enough."""
    server, settings = own_valkey
    async with an_acceptor(settings) as (acceptor, _):
        server.kill()
        for _ in range(5):
            await acceptor.accept([fresh()])
    server.start()
    async with an_acceptor(settings) as (_, outbox):
        await until(lambda: queued(outbox, 5))
    async with an_acceptor(settings) as (_, outbox):
        assert await queued(outbox, 5), "marked as confirmed, they are not put again"


async def test_full_queue_refuses_nobody(own_valkey):
    """At maxmemory the journal takes over; with room again the queue gets it all. Here without the floor before it."""
    server, settings = own_valkey
    settings = settings.model_copy(update={"queue_memory_share": 1.0})
    async with an_acceptor(settings) as (acceptor, outbox):
        with server.client() as admin:
            admin.config_set("maxmemory", "1mb")  # and it is full before anyone asked how full
            await asyncio.gather(*(acceptor.accept([fresh()]) for _ in range(10)))
            assert await queued(outbox, 0)
            admin.config_set("maxmemory", "0")
        await until(lambda: queued(outbox, 10))


async def test_without_any_store_nothing_is_promised(own_valkey, monkeypatch):
    """Queue down and journal full: Unavailable, and no id."""
    server, settings = own_valkey
    async with an_acceptor(settings) as (acceptor, _):
        server.kill()
        monkeypatch.setattr(os, "write", failing)
        with pytest.raises(Unavailable):
            await acceptor.accept([fresh()])


async def test_a_disk_that_fails_leaves_the_queue(settings, monkeypatch):
    """A write that fails, or an fdatasync that does: the queue has the mail, and the client hears yes."""
    async with an_acceptor(settings) as (acceptor, outbox):
        for name in ("write", "fdatasync"):
            with monkeypatch.context() as disk:
                disk.setattr(os, name, failing)
                await asyncio.gather(*(acceptor.accept([fresh()]) for _ in range(3)))
        assert await queued(outbox, 6)


def failing(*_):
    raise OSError(28, "full")


async def test_cancelled_caller_does_not_stop_the_append(settings):
    """A client that goes away in the middle leaves a whole message, not half of one."""
    async with an_acceptor(settings) as (acceptor, outbox):
        caller = asyncio.create_task(acceptor.accept([fresh()]))
        await asyncio.sleep(0)
        caller.cancel()
        await until(lambda: queued(outbox, 1))
