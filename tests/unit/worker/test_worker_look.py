"""When a drain looks at its lanes again, and listens again."""

import asyncio
from itertools import count
from types import SimpleNamespace

import pytest

from outbox.handover import Call
from runtime.settings import Settings
from tests.fixtures.mail import NOON
from worker.drain import Drain
from worker.lanes import PAUSE_EMPTY


class OneLane:
    """A queue in which one lane has been due for a while."""

    is_lost = False

    async def lanes(self, **_):
        return ["dest.test"], NOON


@pytest.fixture
def drain():
    parts = SimpleNamespace(outbox=OneLane(), settings=Settings(), worker="w", now=lambda: NOON)
    return Drain(parts, dialer=None)


async def test_a_pause_that_ends_during_the_look_is_not_slept_over(drain, monkeypatch):
    """The look left its lane out; the next one comes when the pause is over, not when it is time for one anyway."""
    ticks = count(100.0, PAUSE_EMPTY)  # time passes whenever somebody asks for it
    monkeypatch.setattr("worker.drain.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    monkeypatch.setattr("worker.drain.LOOK", 60.0)
    drain._pauses.empty("dest.test", now=100.0)
    async with asyncio.timeout(20):
        await drain._assign_and_wait()
    assert not drain._channels


async def test_mail_that_came_with_the_call_goes_before_the_next_call(drain, monkeypatch):
    """To listen again takes as long as to say MAIL, and the mail waits for nothing else."""
    said = []

    async def say():
        said.append("MAIL")

    def opened(_lane, _name):
        return SimpleNamespace(task=asyncio.create_task(say()), give=lambda _claims, asked_at: None)

    async def hear(*_, is_free):
        return Call("dest.test", "w#1", ["a claim"])

    monkeypatch.setattr(drain, "_open", opened)
    monkeypatch.setattr(drain._listener, "hear", hear)
    await drain._listen()
    assert said == ["MAIL"]
