"""Two machines share a queue; one of them loses its disk."""

import shutil
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from nightmail.roles.accepting import accepting
from outbox.accept import Idempotency
from outbox.journal import Journal
from outbox.policy_store import PolicyStore
from outbox.states import State
from runtime.clock import now
from tests.fixtures.mail import a_submission
from tests.fixtures.next_hop import NextHop
from tests.fixtures.valkey import ValkeyServer
from tests.fixtures.waiting import until
from worker.process import delivering

KEY = Idempotency("POST /emails", "key", "same request")


@pytest.fixture
async def hop():
    async with NextHop() as hop:
        yield hop


@pytest.fixture
def node(settings, hop):
    """Settings of a machine: its own name and disk, the same queue and secret."""

    def of(name):
        own = {"node": name, "data_dir": settings.data_dir / name, "mailbox_smtp_port": hop.port}
        return settings.model_copy(update=own)

    return of


@asynccontextmanager
async def at_work(settings):
    name = f"{settings.node}:drain:1"
    async with delivering(settings, name, Journal(settings.data_dir / "journal" / "drain-1"), grace=5):
        yield


async def test_another_machine_delivers_what_a_lost_disk_accepted(node, hop):
    """What one machine accepted is in the queue too, so its disk may go: the other one delivers all of it, once."""
    async with accepting(node("a"), "api") as parts:
        done = [await parts.acceptor.accept([a_submission(f"{n}@one.test", now=now())]) for n in range(30)]
    shutil.rmtree(node("a").data_dir)
    async with accepting(node("b"), "api") as parts, at_work(node("b")):
        views = [parts.outbox.find(accepted.ids[0]) for accepted in done]
        assert all([await view for view in views])

        async def all_delivered():
            states = [(await parts.outbox.find(accepted.ids[0])).states for accepted in done]
            return all(each == (State.DELIVERED,) for each in states)

        await until(all_delivered)
    assert len(hop.received) == 30


async def test_machine_without_its_disk_starts_again(node):
    """An empty disk is no reason to stay away: keys come from the queue, and mail is taken."""
    async with accepting(node("a"), "api") as parts:
        _, token = await PolicyStore(parts.redis, node("a")).create_key("app")
    shutil.rmtree(node("a").data_dir)
    async with accepting(node("a"), "api") as parts:
        assert parts.policy.authenticate(token).name == "app"
        assert (await parts.acceptor.accept([a_submission(now=now())])).ids


async def test_two_machines_answer_one_id_for_one_key(node, settings, tmp_path):
    """With and without the queue, both machines derive the same id, and one mail comes of it."""
    with ValkeyServer(tmp_path / "own") as server:
        here = {"redis_url": SecretStr(server.url())}
        a, b = (node(name).model_copy(update=here) for name in "ab")
        async with accepting(a, "api") as first, accepting(b, "api") as second:
            server.kill()
            ids = set()
            for parts in (first, second):
                (minted,) = parts.acceptor.mint(1, KEY)
                ids |= set((await parts.acceptor.accept([a_submission(id=minted, now=now())], KEY)).ids)
            assert len(ids) == 1
            server.start()

            async def both_are_in():
                pending = first.acceptor._reinjector.segments | second.acceptor._reinjector.segments
                return not pending and len(await first.outbox.newest(limit=10)) == 1

            await until(both_are_in)
            assert len(await first.outbox.claim("one.test", channel="c#1", limit=10, now=now())) == 1
