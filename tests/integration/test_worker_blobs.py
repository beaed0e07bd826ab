"""Large mail on its way out: streamed whole, never altered, put off or held where its content cannot be had."""

import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from outbox.journal import Journal
from outbox.states import State
from outbox.tail import Tail
from runtime import clock
from tests.fixtures.machine import running
from tests.fixtures.next_hop import NextHop
from tests.fixtures.waiting import until
from worker.process import delivering

CONTENT = b".Subject: Large\r\n\r\n" + b"..dots\r\n.\r\nand no dots\r\n" * 40_000


@pytest.fixture
async def machine(settings):
    async with NextHop() as hop, running(settings.model_copy(update={"mailbox_smtp_port": hop.port})) as machine:
        machine.hop = hop
        yield machine


@asynccontextmanager
async def a_worker(machine):
    name = "test:drain:2"
    journal = Journal(machine.settings.data_dir / "journal" / "drain-2")
    async with delivering(machine.settings, name, journal, grace=5.0) as drain:
        yield drain


async def is_now(machine, message_id, state):
    return await machine.states(message_id) == (state,)


def only_file(machine):
    (path,) = Path(machine.settings.blobs).iterdir()
    return path


def take_away(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("where the folder should be")


async def test_a_large_mail_arrives_as_it_was_accepted(machine):
    """Octet for octet, dots at block borders and all, with small mail beside it."""
    large = await machine.accept("ann@one.test", content=CONTENT)
    small = await machine.accept("bob@one.test")
    async with a_worker(machine):
        await until(lambda: is_now(machine, large, State.DELIVERED))
        await until(lambda: is_now(machine, small, State.DELIVERED))
    assert CONTENT in [mail.content for mail in machine.hop.received]
    assert any(f"SIZE={len(CONTENT)}" in line for line in machine.hop.lines)


async def test_altered_content_is_never_sent(machine):
    """Without a copy in the journal it is held, and told; with its content back a person sends it on."""
    message_id = await machine.accept("ann@one.test", content=CONTENT)
    path = only_file(machine)
    path.write_bytes(CONTENT[:-3] + b"!\r\n")
    shutil.rmtree(machine.settings.data_dir / "journal" / "api-1")
    async with a_worker(machine):
        await until(lambda: is_now(machine, message_id, State.HELD))
        assert Tail(machine.blocking, machine.settings.queue_prefix).events(0, 9)[-1].fields["reason"] == "content_lost"
        assert machine.hop.received == []
        path.write_bytes(CONTENT)
        assert await machine.outbox.redrive(f"{message_id}/0", now=clock.now())
        await until(lambda: is_now(machine, message_id, State.DELIVERED))
    assert [mail.content for mail in machine.hop.received] == [CONTENT]


async def test_a_store_that_is_away_delays_and_fails_nothing(machine):
    """A fault of ours: the mail is deferred, with a word on why, and goes out when the store is back."""
    message_id = await machine.accept("ann@one.test", content=CONTENT)
    take_away(Path(machine.settings.blobs))
    async with a_worker(machine):
        await until(lambda: is_now(machine, message_id, State.DEFERRED))
    (outcome,) = (await machine.outbox.find(message_id)).outcomes
    assert outcome.status == "4.3.0"
    assert machine.hop.received == []
