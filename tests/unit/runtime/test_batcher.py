"""Concurrent calls share a round trip, and each gets its own reply."""

import asyncio

import pytest

from runtime.batcher import Batcher
from tests.fixtures.waiting import until


def answering_late():
    """A flush that answers once it may, what it was given, and the event that lets it."""
    flushed, end = [], asyncio.Event()

    async def flush(items):
        flushed.append(items)
        await end.wait()
        return items

    return flush, flushed, end


async def test_one_turn_is_one_flush():
    """A hundred calls of one turn go out in batches of the largest size."""
    sizes = []

    async def flush(items):
        sizes.append(len(items))
        return [item * 2 for item in items]

    batcher = Batcher(flush, most=40, lanes=1)
    assert await asyncio.gather(*(batcher.submit(n) for n in range(100))) == [n * 2 for n in range(100)]
    assert sizes == [40, 40, 20]


async def test_a_lone_call_leaves_in_the_next_turn_and_under_load_one_more_is_joined():
    """Where nothing is under way nobody waits for company; where something is, the batch is larger."""
    flush, flushed, end = answering_late()
    batcher = Batcher(flush, lanes=2)
    replies = [batcher.submit(1)]
    await asyncio.sleep(0)
    assert flushed == [[1]]
    replies.append(batcher.submit(2))
    await asyncio.sleep(0)
    replies.append(batcher.submit(3))
    await asyncio.sleep(0)
    assert flushed == [[1], [2, 3]]
    end.set()
    assert await asyncio.gather(*replies) == [1, 2, 3]


async def test_what_a_full_batch_leaves_goes_by_another_lane():
    """It does not wait for the reply to the first."""
    flush, flushed, end = answering_late()
    batcher = Batcher(flush, lanes=2, most=2)
    replies = [batcher.submit(n) for n in range(3)]
    await until(lambda: flushed == [[0, 1], [2]])
    end.set()
    assert await asyncio.gather(*replies) == [0, 1, 2]


async def test_heavy_items_end_a_batch():
    """A batch is closed once it weighs enough."""
    sizes = []

    async def flush(items):
        sizes.append(len(items))
        return items

    batcher = Batcher(flush, heavy=10, weight=lambda item: item, lanes=1)
    await asyncio.gather(*(batcher.submit(n) for n in (1, 20, 1, 1)))
    assert sizes == [2, 2]


async def test_failure_is_everybodys_and_a_refusal_ones_own():
    """If the flush raises, all get it; a reply that is an exception is raised for its submitter only."""

    async def flush(items):
        if "all" in items:
            raise ConnectionError("gone")
        return [ValueError("no") if item == "bad" else item for item in items]

    batcher = Batcher(flush)
    good, bad = await asyncio.gather(batcher.submit("good"), batcher.submit("bad"), return_exceptions=True)
    assert good == "good"
    assert isinstance(bad, ValueError)
    with pytest.raises(ConnectionError):
        await batcher.submit("all")


async def test_cancelled_caller_leaves_the_others_alone():
    """A caller that goes away does not take the batch with it."""
    sent = asyncio.Event()

    async def flush(items):
        await sent.wait()
        return items

    batcher = Batcher(flush)
    leaving, staying = (batcher.submit(n) for n in (1, 2))
    await asyncio.sleep(0)
    leaving.cancel()
    sent.set()
    assert await staying == 2


@pytest.mark.parametrize("lanes", [1, 2, 4])
async def test_who_submits_again_at_once_is_not_stranded(lanes):
    """All lanes end in one turn of the loop, and the first to be answered comes again in it."""
    synced = asyncio.get_running_loop().create_future()

    async def flush(items):
        await synced
        return items

    batcher = Batcher(flush, lanes=lanes)

    async def twice(number):
        await batcher.submit(number)
        return await batcher.submit(-number)

    first = asyncio.create_task(twice(1))
    others = []
    for number in range(2, lanes + 1):
        await until(lambda: not batcher._waiting)
        others.append(batcher.submit(number))
    await until(lambda: not batcher._waiting)
    synced.set_result(None)
    async with asyncio.timeout(5):
        assert await first == -1
        await asyncio.gather(*others)
