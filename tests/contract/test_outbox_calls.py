"""Who is called when work arrives, and who is given it with the call; held against the fake and the real store."""

from datetime import timedelta

import pytest

from outbox.handover import Call
from outbox.message import Claim
from outbox.states import State
from tests.fixtures.mail import NOON, a_submission, an_attempt, an_entry

LANE = "one.test"
READY = "w#7"


async def put(outbox, *submissions, now=NOON):
    (reply,) = await outbox.append([an_entry(*submissions).arguments(now)])
    assert not isinstance(reply, Exception), reply


async def wait(outbox, channel="", *, now=NOON, seconds=0.01):
    return await outbox.wait(seconds, channel=channel, now=now)


async def claim(outbox, *, channel="w#1", now=NOON):
    return await outbox.claim(LANE, channel=channel, limit=10, now=now)


async def test_wait_ends_when_work_arrives(outbox):
    """An idle worker is woken by the accept, not by a clock, and told where the work is."""
    await put(outbox, a_submission())
    assert await wait(outbox, seconds=10) == Call(LANE)


@pytest.mark.parametrize(
    "mail", [a_submission("ann@one.test", "bob@two.test"), a_submission(scheduled_at=NOON + timedelta(hours=1))]
)
async def test_a_call_about_several_lanes_or_for_later_names_none(outbox, redis, bare_settings, mail):
    """Somebody has to look."""
    await wait(outbox, READY)
    await put(outbox, mail)
    assert await redis.lrange(f"{{{bare_settings.queue_prefix}}}:wake", 0, -1) == [b""]
    assert await wait(outbox, READY) == Call()


async def test_nobody_is_called_for_a_lane_with_a_channel(outbox):
    """It claims until it finds nothing. One that has not claimed for long does not count: it may be dead."""
    await put(outbox, a_submission())
    await wait(outbox)
    assert await claim(outbox)
    await put(outbox, a_submission())
    assert await wait(outbox) == Call()
    later = NOON + timedelta(seconds=2)
    await put(outbox, a_submission(), now=later)
    assert await wait(outbox) == Call(LANE)


async def test_a_channel_that_left_does_not_return_by_renewing(outbox):
    """The renewal of what it still settles may come after its last claim: the next mail must be called for."""
    await put(outbox, a_submission())
    await wait(outbox)
    (held,) = await claim(outbox)
    assert await claim(outbox) == []
    assert await outbox.renew([held], channel="w#1", now=NOON) == set()
    await put(outbox, a_submission())
    assert await wait(outbox) == Call(LANE)


async def test_a_channel_that_waits_is_given_what_comes(outbox):
    """The claim comes with the call, complete, and is settled as any other."""
    await wait(outbox, READY)
    mail = a_submission("a@one.test", "b@one.test", content=b"any octets \x00\xff:12\r\n")
    await put(outbox, mail)
    call = await wait(outbox, READY)
    (held,) = call.claims
    assert (call.lane, call.channel) == (LANE, READY)
    assert held == Claim(mail.message, mail.content, 0, LANE, (0, 1), attempts=0, token=1, possible_duplicate=False)
    assert await claim(outbox) == []
    assert await outbox.settle(held, an_attempt(held), worker="w", now=NOON, next_attempt_at=None)
    assert (await outbox.find(mail.message.id)).states == (State.DELIVERED, State.DELIVERED)


async def test_what_it_was_given_is_its_own(outbox):
    """It has its place in the lane, and its lease is renewed and reaped as any other."""
    await wait(outbox, READY)
    await put(outbox, a_submission())
    (held,) = (await wait(outbox, READY)).claims
    await put(outbox, a_submission())
    assert await wait(outbox, "w#8") == Call(), "the one that has the first mail takes this one too"
    assert await outbox.renew([held], channel=READY, now=NOON) == set()
    assert await outbox.reap(now=NOON + timedelta(minutes=1)) == 1
    assert await outbox.renew([held], channel=READY, now=NOON) == {held.delivery_id}


async def test_it_is_given_work_once(outbox):
    """For more it has to say that it waits again: until then, work is called for."""
    await wait(outbox, READY)
    await put(outbox, a_submission("a@one.test"))
    await put(outbox, a_submission("a@two.test"))
    call = await wait(outbox)
    assert call == Call("two.test")


async def test_it_is_given_no_more_before_it_fetched_the_first(outbox):
    """A call about another lane may come first. It has one name for one channel: what came second would be lost."""
    await wait(outbox, READY)
    await put(outbox, a_submission("a@one.test"))
    await put(outbox, a_submission("a@two.test"))
    assert (await wait(outbox, READY)).lane == "one.test"
    await put(outbox, a_submission("a@three.test"))
    assert [(await wait(outbox)).lane for _ in range(2)] == ["three.test", "two.test"]


async def test_nobody_is_given_work_long_after_the_wait(outbox):
    """A worker that stands still would keep it from the others."""
    await wait(outbox, READY)
    later = NOON + timedelta(seconds=5)
    await put(outbox, a_submission(), now=later)
    assert await wait(outbox, READY, now=later) == Call(LANE)


@pytest.mark.parametrize("second", ["a@one.test", "a@two.test"])
async def test_lanes_with_work_and_groups_of_lanes_are_called_for(outbox, second):
    """There somebody has to look which lane is first, or whether its next hop can be reached at all."""
    await put(outbox, a_submission())
    await wait(outbox)
    await wait(outbox, READY)
    await put(outbox, a_submission(second), a_submission("a@three.test"))
    assert (await wait(outbox, READY)).claims == ()
    assert len(await claim(outbox)) == 1 + (second == "a@one.test")


async def test_a_lane_with_deferred_mail_is_called_for(outbox):
    """Its next hop may be one that cannot be reached, to which nobody should go for each mail."""
    await put(outbox, a_submission())
    (held,) = await claim(outbox)
    later = NOON + timedelta(minutes=5)
    await outbox.settle(held, an_attempt(held, State.DEFERRED), worker="w", now=NOON, next_attempt_at=later)
    await outbox.leave(LANE, "w#1")
    await wait(outbox, READY)
    await put(outbox, a_submission())
    assert await wait(outbox, READY) == Call(LANE)


async def test_rescue_takes_back_what_was_given_and_not_seen(outbox, redis, bare_settings):
    """And it is given nothing more. Nothing was begun: there is no doubt, and it comes to the next at once."""
    await wait(outbox, READY)
    await put(outbox, a_submission())
    assert await outbox.rescue("w", begun=(), now=NOON) == 1
    await wait(outbox)
    assert (await wait(outbox, READY)).claims == ()
    (held,) = await claim(outbox)
    assert not held.possible_duplicate
    stream = await redis.xrange(f"{{{bare_settings.queue_prefix}}}:events")
    assert b'"reason":"never_begun"' in stream[-1][1][b"e"]


async def test_rescue_ends_the_waiting(outbox):
    """A worker that ends is given nothing any more."""
    await wait(outbox, READY)
    assert await outbox.rescue(READY, begun=(), now=NOON) == 0
    await put(outbox, a_submission())
    assert await wait(outbox) == Call(LANE)
