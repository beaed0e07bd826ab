"""A worker whose queue is full, whose batches are large, whose next hops are silent, or which dies as it recovers."""

from datetime import timedelta

import pytest

import worker.process
from outbox.journal import Journal, read_segment
from outbox.queue import Outbox
from outbox.states import State
from runtime import clock
from runtime.connections import redis_async
from tests.fixtures.mail import a_submission, an_attempt, an_entry
from tests.fixtures.next_hop import SILENCE, NextHop
from tests.fixtures.waiting import until
from tests.integration.test_worker_drain import Stack
from worker.finisher import Finisher
from worker.hop import Hop


@pytest.fixture
async def stack(settings):
    async with NextHop() as hop:
        stack = Stack(settings, hop)
        yield stack
        await stack.redis.aclose()


async def test_a_full_queue_can_be_worked_off_slowly(own_valkey):
    """Leases are renewed over maxmemory too, or a slow batch would stand still for ever just when room is needed."""
    server, settings = own_valkey
    with server.client() as admin:
        async with redis_async(settings, timeout=5) as redis:
            outbox, now = Outbox(redis, settings), clock.now()
            await outbox.append([an_entry(a_submission("ann@one.test", now=now)).arguments(now)])
            (held,) = await outbox.claim("one.test", channel="w#1", limit=1, now=now)
            admin.config_set("maxmemory", "1mb")
            assert await outbox.renew([held], channel="w#1", now=now) == set()
            assert await outbox.settle(held, an_attempt(held), worker="w", now=now, next_attempt_at=None)


async def test_a_batch_larger_than_what_may_wait_to_be_settled(stack):
    """What was not sent yet does not count as waiting."""
    for n in range(80):
        await stack.put(f"{n}@one.test")
    async with stack.drain(claim_batch=100, lane_connections=1):
        await until(lambda: stack.all_are(State.DELIVERED))
    assert len(stack.hop.received) == 80


async def test_silent_next_hops_do_not_take_all_connections(stack, monkeypatch):
    """They may be silent for minutes; the living get connections beside theirs."""
    async with NextHop({"greeting": SILENCE}) as silent:

        class Route:
            name = "mx"

            async def hops(self, domain):
                port = stack.hop.port if domain == "alive.test" else silent.port
                return (Hop(domain, port, "127.0.0.1"),)

        monkeypatch.setattr(worker.process.routes, "from_settings", lambda _: Route())
        for n in range(3):
            await stack.put(f"ann@silent{n}.test")
        async with stack.drain(worker_connections=3, grace=0.5):
            await until(lambda: silent.connections == 3)
            alive = await stack.put("ann@alive.test")
            await until(lambda: stack.hop.received)
            assert stack.hop.received[0].recipients == ["ann@alive.test"]
            await until(lambda: _is_delivered(stack, alive))


async def _is_delivered(stack, message_id):
    return await stack.states(message_id) == (State.DELIVERED,)


async def test_an_attempt_is_on_record_before_its_dot(stack):
    """Who dies with the dot out has noted that the mail may be delivered."""
    stack.hop.answers["dot"] = SILENCE
    await stack.put("ann@one.test")
    async with stack.drain(grace=0.1):
        await until(lambda: "." in stack.hop.lines)
        assert _noted(stack) == ["begun"]


def _noted(stack):
    """The kinds of a worker's records, in order."""
    segments = sorted((stack.settings.data_dir / "journal").glob("*/*.log"))
    return [header["kind"] for segment in segments for _, header, _ in read_segment(segment)]


async def test_what_was_begun_is_known_until_it_was_rescued(stack):
    """A life that settles what an earlier one left, and dies before it took back the rest, forgets nothing of it."""
    await stack.put("ann@one.test")
    (held,) = await stack.outbox.claim("one.test", channel="w#1", limit=1, now=clock.now())
    await _life(stack, held)
    prefix = f"{{{stack.settings.queue_prefix}}}"
    await stack.redis.set(f"{prefix}:archived", await stack.redis.get(f"{prefix}:seq"))
    assert await _life(stack) == {held.delivery_id}
    begun = await _life(stack)
    assert await stack.outbox.rescue("w", begun=begun, now=clock.now()) == 1
    (again,) = await stack.outbox.claim("one.test", channel="w#2", limit=1, now=clock.now() + timedelta(seconds=1))
    assert again.possible_duplicate


async def _life(stack, held=None):
    """What a worker finds at its start of attempts that were begun; then it begins its own, and is killed."""
    journal = Journal(stack.settings.data_dir / "journal" / "w")
    finisher = Finisher(stack.outbox, journal, worker="w")
    await finisher.recover()
    if held:
        finisher.begin(held)
    await journal.close()
    return finisher.begun_before
