"""The door in front of accepting: places, a line, and refusals that cost nothing."""

import asyncio

import pytest
from prometheus_client import generate_latest

from outbox.door import Door
from outbox.errors import Overloaded
from runtime.settings import Settings


class Clock:
    """Moves when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def a_door(clock=None, **changes):
    fields = {"accept_places": 4, "accept_waiting": 8, "accept_wait": 5} | changes
    return Door(Settings(**fields), clock=clock or Clock())


async def stand(door, count):
    """So many who want in; returns them once they stand in line."""
    waiting = [asyncio.create_task(door.enter()) for _ in range(count)]
    await asyncio.sleep(0)
    return waiting


async def test_places_then_a_line_then_no():
    """Four work, eight wait, the next is refused at once, and each place that comes free goes to the first in line."""
    door = a_door()
    for _ in range(4):
        await door.enter()
    waiting = await stand(door, 8)
    assert door.is_full
    with pytest.raises(Overloaded):
        await door.enter()
    door.leave()
    await waiting[0]
    assert [task.done() for task in waiting] == [True] + [False] * 7
    for _ in range(11):
        door.leave()
    await asyncio.gather(*waiting)
    assert not door.is_full


async def test_a_line_that_stands_is_cut_short():
    """A burst may fill the line; a line that is not worked off is more than we can do, and only a short one is kept."""
    clock = Clock()
    door = a_door(clock)
    for _ in range(4):
        await door.enter()
    waiting = await stand(door, 3)
    assert not door.is_full
    clock.now += 0.2
    assert door.is_full
    with pytest.raises(Overloaded):
        door.demand()
    for _ in range(7):
        door.leave()
    await asyncio.gather(*waiting)
    for _ in range(4):
        await door.enter()
    waiting = await stand(door, 1)
    assert door.is_full, "a moment after a refusal there is no room for a burst"
    clock.now += 3
    waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not door.is_full


async def test_nobody_waits_for_ever():
    """Who waits too long is refused, and the place goes to somebody else."""
    door = a_door(accept_places=1, accept_wait=0.01)
    await door.enter()
    with pytest.raises(Overloaded):
        await door.enter()
    door.leave()
    async with door:
        pass


async def test_who_is_inside_and_who_waits_can_be_scraped():
    """The gauges are read when they are asked for, and cost an accept nothing."""
    door = a_door(accept_places=1)
    async with door:
        waiting = await stand(door, 2)
        told = generate_latest().decode().splitlines()
        assert "nightmail_accepts_in_flight 1.0" in told
        assert "nightmail_accepts_waiting 2.0" in told
        for each in waiting:
            each.cancel()


async def test_a_place_is_never_lost():
    """Callers that are cancelled at any moment, even in the one when their turn comes, leave all places free."""
    door = a_door(accept_places=2, accept_waiting=100)

    async def work():
        async with door:
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(work()) for _ in range(60)]
    for at in range(20):
        await asyncio.sleep(0)
        tasks[3 * at].cancel()
        tasks[(7 * at) % 60].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(2):
        await asyncio.wait_for(door.enter(), 1)


async def test_octets_are_counted():
    """Large requests share a budget."""
    octets = a_door(accept_bytes=100).octets
    assert octets.take(60)
    assert not octets.take(60)
    octets.give_back(60)
    assert octets.take(100)
