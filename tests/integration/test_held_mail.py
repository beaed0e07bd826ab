"""What was put aside for a person: it is listed with its reason, and a word puts it back to work."""

import asyncio
from datetime import timedelta

import pytest
from click.testing import CliRunner

from nightmail.cli import main
from outbox.held import held
from runtime import clock
from tests.fixtures.machine import running


@pytest.fixture
async def machine(settings, monkeypatch):
    settings = settings.model_copy(update={"max_releases": 2})
    for name in ("redis_url", "queue_prefix", "data_dir"):
        value = getattr(settings, name)
        monkeypatch.setenv(f"NIGHTMAIL_{name.upper()}", str(getattr(value, "get_secret_value", lambda v=value: v)()))
    async with running(settings) as machine:
        yield machine


async def lose_leases(machine, lane):
    """Its worker is gone while it is sent, as often as it takes."""
    for hours in range(1, 3):
        later = clock.now() + timedelta(hours=hours)
        await machine.outbox.claim(lane, channel="w#1", limit=9, now=later)
        await machine.outbox.reap(now=later + timedelta(minutes=30))


async def nightmail(*words):
    """Its exit code and what it printed."""
    result = await asyncio.to_thread(CliRunner().invoke, main, words)
    return result.exit_code, result.output


async def test_held_mail_is_listed_and_put_back(machine):
    """By the message's id, by the delivery's, or all; what is not held is named and nothing is done."""
    ids = [await machine.accept(f"ann@{name}.test") for name in ("a", "b", "c")]
    assert await nightmail("held") == (0, "Nothing is held.\n")
    for lane in ("a.test", "b.test", "c.test"):
        await lose_leases(machine, lane)
    found = await held(machine.redis, machine.settings)
    assert [(h.message.id, h.recipients, h.leases_lost) for h in found] == [
        (message_id, (f"ann@{lane}.test",), 2) for message_id, lane in zip(ids, "abc", strict=True)
    ]
    code, said = await nightmail("redrive", ids[0], "nobody")
    assert (code, said) == (1, "Error: Not held: nobody. `nightmail held` lists what is.\n")
    assert len(await held(machine.redis, machine.settings)) == 3
    assert (await nightmail("redrive", ids[0]))[0] == 0
    assert (await nightmail("redrive", f"{ids[1]}/0"))[0] == 0
    assert [h.message.id for h in await held(machine.redis, machine.settings)] == [ids[2]]
    assert await nightmail("redrive", "--all") == (0, "1 deliveries are at work again.\n")
    for lane in ("a.test", "b.test", "c.test"):
        (claim,) = await machine.outbox.claim(lane, channel="w#2", limit=9, now=clock.now())
        assert claim.possible_duplicate
    assert (await nightmail("redrive"))[0] == 2
