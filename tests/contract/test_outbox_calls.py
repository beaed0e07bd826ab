"""Who is called when work arrives, and who is given it with the call; held against the fake and the real store."""

from datetime import timedelta

import pytest

from outbox.handover import Call
from outbox.message import Claim
from outbox.queue import Outbox
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


@pytest.mark.parametrize("suppressed", [(), ("b@one.test",)])
async def test_what_is_given_leaves_the_queue_as_if_it_were_claimed(outbox, redis, bare_settings, suppressed):
    """Accept claims by a way of its own: nobody can tell, neither from the claims nor from any key."""
    mails = [a_submission("a@one.test", "b@one.test"), a_submission("c@one.test", content=b"")]
    other = bare_settings.model_copy(update={"queue_prefix": bare_settings.queue_prefix + "-claimed"})
    claimed = Outbox(redis, other)
    for settings in (bare_settings, other):
        for address in suppressed:
            await redis.hset(f"{{{settings.queue_prefix}}}:suppressed", address, '{"id":"s","origin":"manual"}')
    await wait(outbox, READY)
    await put(outbox, *mails)
    call = await wait(outbox, READY)
    await put(claimed, *mails)
    assert (await wait(claimed)).lane == LANE
    given = sorted(call.claims, key=lambda held: held.delivery_id)
    assert given == await claim(claimed, channel=READY)
    assert sorted(len(held.suppressed) for held in given) == [0, len(suppressed)]
    assert await everything(redis, bare_settings) == await everything(redis, other)


async def everything(redis, settings):
    """All keys of a queue with what they hold; but who waits for work, and states that nothing is in."""
    prefix, found = f"{{{settings.queue_prefix}}}:", {}
    readers = {b"string": redis.get, b"hash": redis.hgetall, b"stream": redis.xrange}
    async for key in redis.scan_iter(match=f"{prefix}*"):
        kind, name = await redis.type(key), key.decode().removeprefix(prefix)
        if name != "idle":
            found[name] = await (redis.zrange(key, 0, -1, withscores=True) if kind == b"zset" else readers[kind](key))
    found["states"] = {state: number for state, number in found["states"].items() if number != b"0"}
    return found


async def test_what_comes_again_is_not_given_again(outbox):
    """Of a call that repeats a known mail only the new one is given."""
    known, new = a_submission(), a_submission()
    await put(outbox, known)
    await wait(outbox)
    (held,) = await claim(outbox)
    assert await outbox.settle(held, an_attempt(held), worker="w", now=NOON, next_attempt_at=None)
    await outbox.leave(LANE, "w#1")
    await wait(outbox, READY)
    await put(outbox, known, new)
    assert [held.message.id for held in (await wait(outbox, READY)).claims] == [new.message.id]


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
