"""Work that comes with a call, from a real queue: nothing of it stays with a worker that does not know of it."""

import asyncio
from contextlib import asynccontextmanager
from itertools import count

import pytest

from outbox.handover import Call
from outbox.queue import Outbox
from outbox.states import State
from runtime import clock
from runtime.connections import StoreError, redis_async
from tests.fixtures.mail import a_submission, an_attempt, an_entry
from tests.fixtures.waiting import until
from worker.listener import Listener

LONG = 60.0


@pytest.fixture
async def waiting(settings):
    async with redis_async(settings, timeout=2 * LONG) as client:
        yield client


@pytest.fixture
def outbox(redis, waiting, settings):
    return Outbox(redis, settings, waiting=waiting)


@pytest.fixture
def listener(outbox):
    return Listener(outbox, (f"w#{number}" for number in count(1)), clock.now)


async def put(outbox):
    submission = a_submission("ann@one.test", now=clock.now())
    await outbox.append([an_entry(submission).arguments(clock.now())])
    return submission.message.id


async def states(outbox, message_id):
    return (await outbox.find(message_id)).states


@asynccontextmanager
async def hearing(listener, redis, *, is_free=True):
    """A listener whose wait has reached the queue."""

    async def waits():
        return await blocked(redis)

    call = asyncio.create_task(listener.hear(LONG, is_free=is_free))
    await until(waits)
    yield call


async def blocked(redis):
    """The connections that wait in this test's own database."""
    own = str(redis.connection_pool.connection_kwargs["db"])
    return [client["id"] for client in await redis.client_list() if client["db"] == own and "b" in client["flags"]]


async def test_each_work_comes_under_another_name(outbox, listener, redis):
    """As each channel has one."""
    for name in ("w#1", "w#2"):
        async with hearing(listener, redis) as call:
            await put(outbox)
            (held,) = (await call).claims
        assert call.result().channel == name
        await outbox.settle(held, an_attempt(held), worker="w", now=clock.now(), next_attempt_at=None)
        await outbox.leave("one.test", name)


async def test_who_is_not_free_is_told_of_work_and_given_none(outbox, listener, redis):
    """Its connections are all in use: others may be sooner."""
    async with hearing(listener, redis, is_free=False) as call:
        one = await put(outbox)
        assert await call == Call("one.test")
    assert await states(outbox, one) == (State.QUEUED,)


async def test_work_whose_call_was_lost_goes_back(outbox, listener, redis):
    """It was given to a connection that is gone. The next wait begins with giving back."""
    async with hearing(listener, redis) as call:
        await redis.client_kill_filter(_id=(await blocked(redis))[0])
        with pytest.raises(StoreError):
            await call
    one = await put(outbox)
    assert await states(outbox, one) == (State.SENDING,)
    assert await listener.hear(LONG, is_free=True) == Call()
    assert await states(outbox, one) == (State.QUEUED,)


async def test_who_gives_up_keeps_nothing(outbox, listener, redis):
    """What comes while a worker ends is for others, at once."""
    async with hearing(listener, redis) as call:
        call.cancel()
        await asyncio.wait([call])
    one = await put(outbox)
    await listener.give_up()
    another = await put(outbox)
    assert await states(outbox, one) == await states(outbox, another) == (State.QUEUED,)
