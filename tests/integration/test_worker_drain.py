"""The drain against a real queue and real, misbehaving next hops."""

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta

import orjson
import pytest
from pydantic import SecretStr

from outbox.journal import Journal
from outbox.queue import Outbox
from outbox.states import State
from runtime import clock
from runtime.connections import redis_async
from tests.fixtures.mail import a_submission, an_entry
from tests.fixtures.next_hop import CLOSE, SILENCE, NextHop
from tests.fixtures.valkey import ValkeyServer
from tests.fixtures.waiting import until
from worker.process import delivering

OURS = "test:drain:1"


class Stack:
    """A queue, a next hop and a worker's drain."""

    def __init__(self, settings, hop):
        self.settings = settings.model_copy(update={"mailbox_smtp_port": hop.port})
        self.hop = hop
        self.redis = redis_async(self.settings, timeout=5)
        self.outbox = Outbox(self.redis, self.settings)
        self.ids = []

    @asynccontextmanager
    async def drain(self, name=OURS, *, grace=5.0, **settings):
        changed = self.settings.model_copy(update=settings)
        journal = Journal(changed.data_dir / "journal" / name.replace(":", "-"))
        async with delivering(changed, name, journal, grace=grace) as drain:
            yield drain

    async def put(self, *addresses, **fields):
        submission = a_submission(*addresses, now=clock.now(), **fields)
        (reply,) = await self.outbox.append([an_entry(submission).arguments(clock.now())])
        assert not isinstance(reply, Exception), reply
        self.ids.append(submission.message.id)
        return submission.message.id

    async def view(self, message_id):
        return await self.outbox.find(message_id)

    async def states(self, message_id):
        return (await self.view(message_id)).states

    async def all_are(self, state):
        return all([set(await self.states(i)) == {state} for i in self.ids])

    async def events(self, kind):
        entries = await self.redis.xrange(f"{{{self.settings.queue_prefix}}}:events")
        events = [orjson.loads(fields[b"e"]) for _, fields in entries]
        return [event for event in events if event["kind"] == kind]


@pytest.fixture
async def hop():
    async with NextHop() as hop:
        yield hop


@pytest.fixture
async def stack(settings, hop):
    stack = Stack(settings, hop)
    yield stack
    await stack.redis.aclose()


async def test_mail_is_delivered_and_recorded(stack):
    """What is due is sent, and its event tells when, where, and what was said."""
    one = await stack.put("ann@one.test", "bob@one.test")
    async with stack.drain():
        await until(lambda: stack.all_are(State.DELIVERED))
    assert stack.hop.received[0].recipients == ["ann@one.test", "bob@one.test"]
    (event,) = await stack.events("attempted")
    assert (event["id"], event["route"], event["number"], event["worker"]) == (one, "mailbox", 1, OURS)
    assert {"connect", "mail", "rcpt", "data", "dot"} <= set(event["steps"])
    assert event["peer"] == f"mailbox[127.0.0.1]:{stack.hop.port}"
    assert [o["code"] for o in event["outcomes"]] == [250, 250]


async def test_an_idle_drain_delivers_within_milliseconds(stack):
    """Mail for an idle drain does not wait for its next look."""
    async with stack.drain():
        await stack.put("first@one.test")
        await until(lambda: stack.all_are(State.DELIVERED))
        delays = []
        for n in range(7):
            begun = time.perf_counter()
            await stack.put(f"{n}@lane{n}.test")
            await until(lambda: stack.all_are(State.DELIVERED))
            delays.append(time.perf_counter() - begun)
    assert sorted(delays)[3] < 0.3  # the median: a look without a call is a second away


async def test_many_mails_and_lanes_share_few_connections(stack):
    """300 mails in 30 lanes arrive exactly once each, over connections that are used again."""
    for n in range(300):
        await stack.put(f"{n}@lane{n % 30}.test")
    async with stack.drain(worker_connections=6):
        await until(lambda: stack.all_are(State.DELIVERED))
    assert sorted(r.recipients[0] for r in stack.hop.received) == sorted(f"{n}@lane{n % 30}.test" for n in range(300))
    assert stack.hop.connections <= 12


async def test_recipients_part_ways(stack):
    """One transaction, three ends: delivered, failed, and deferred with a next attempt."""

    def answer(line):
        return {"a@": "250 ok", "b@": "550 5.1.1 no such user", "c@": "450 4.2.1 later"}[line.partition("<")[2][:2]]

    stack.hop.answers["RCPT"] = answer
    one = await stack.put("a@one.test", "b@one.test", "c@one.test")
    async with stack.drain():

        async def settled():
            return await stack.states(one) == (State.DELIVERED, State.FAILED, State.DEFERRED)

        await until(settled)
    (event,) = await stack.events("attempted")
    assert event["next_attempt_at"] > clock.to_ms(clock.now() + timedelta(minutes=3))


async def test_deferred_mail_is_tried_again_until_it_expires(stack):
    """A transient reply is retried after the set time, and fails with 4.4.7 when the message is too old."""
    stack.hop.answers["RCPT"] = "450 4.2.1 later"
    async with stack.drain(retry_first=timedelta(milliseconds=50), expire_after=timedelta(seconds=1)):
        one = await stack.put("a@one.test")  # its age counts from here, and a start may take long
        await until(lambda: stack.all_are(State.FAILED))
    (outcome,) = (await stack.view(one)).outcomes
    assert (outcome.status, outcome.code) == ("4.4.7", 450)
    numbers = [event["number"] for event in await stack.events("attempted")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 2


async def test_simulator_answers_its_own_lane(stack):
    """The test addresses end as their names say, and no connection is made."""
    ids = {
        name: await stack.put(f"{name}+label@resend.dev")
        for name in ("delivered", "bounced", "complained", "suppressed")
    }
    async with stack.drain():

        async def words():
            return {name: (await stack.view(i)).last_event for name, i in ids.items()}

        async def ended():
            return (await words()) == {name: name for name in ids}

        await until(ended)
    assert stack.hop.connections == 0


async def test_an_unreachable_hop_defers_and_recovers(settings):
    """Mail for a hop that is down is deferred with 4.4.1, and goes out when it is back."""
    async with NextHop() as gone:
        pass
    stack = Stack(settings, gone)
    one = await stack.put("a@one.test")
    async with stack.drain(retry_first=timedelta(seconds=1)):

        async def deferred():
            view = await stack.view(one)
            return view.states == (State.DEFERRED,) and view.outcomes[0].status == "4.4.1"

        await until(deferred)
        async with NextHop(port=gone.port) as back:
            await until(lambda: stack.all_are(State.DELIVERED))
            assert len(back.received) == 1
    await stack.redis.aclose()


async def test_a_dead_idle_connection_costs_nothing(stack):
    """A connection that the server closed while it was idle is replaced, without an attempt being counted."""
    async with stack.drain():
        await stack.put("a@one.test")
        await until(lambda: stack.all_are(State.DELIVERED))
        stack.hop.answers["MAIL"] = lambda _: CLOSE if stack.hop.connections == 1 else "250 ok"
        await stack.put("b@one.test")
        await until(lambda: stack.all_are(State.DELIVERED))
    assert stack.hop.connections == 2
    assert [event["number"] for event in await stack.events("attempted")] == [1, 1]


async def test_a_stop_finishes_what_is_under_way_and_gives_back_the_rest(stack):
    """At a stop, the delivery in hand ends, the claimed ones are due again at once, and nothing is lost or doubled."""
    held = asyncio.Event()
    stack.hop.answers["dot"] = lambda _: held.set() or "250 ok"
    for n in range(20):
        await stack.put(f"{n}@one.test")
    async with stack.drain(lane_connections=1):
        await held.wait()
    delivered = len(stack.hop.received)
    states = [(await stack.states(i))[0] for i in stack.ids]
    assert states.count(State.DELIVERED) == delivered
    assert states.count(State.QUEUED) == 20 - delivered
    async with stack.drain():
        await until(lambda: stack.all_are(State.DELIVERED))
    assert len(stack.hop.received) == 20
    assert not any(event["possible_duplicate"] for event in await stack.events("attempted"))


async def test_a_stop_does_not_wait_for_ever(stack):
    """A delivery that hangs is cut when the grace is over: given back if the dot was not sent."""
    stack.hop.answers["RCPT"] = SILENCE
    one = await stack.put("a@one.test")
    async with stack.drain(grace=0.1):
        await until(lambda: any(line.startswith("RCPT") for line in stack.hop.lines))
    assert await stack.states(one) == (State.QUEUED,)


async def test_a_delivery_cut_after_the_dot_is_not_given_back(stack):
    """Once the dot is out, only the next hop knows: the lease stays, so that the next attempt is flagged."""
    stack.hop.answers["dot"] = SILENCE
    one = await stack.put("a@one.test")
    async with stack.drain(grace=0.1):
        await until(lambda: "." in stack.hop.lines)
    assert await stack.states(one) == (State.SENDING,)
    stack.hop.answers.clear()
    async with stack.drain():
        await until(lambda: stack.all_are(State.DELIVERED))
    assert [event["possible_duplicate"] for event in await stack.events("attempted")] == [True]


async def test_leases_are_renewed_while_a_slow_hop_answers(stack):
    """A delivery that takes several leases is still ours, and nobody sends it twice."""
    stack.hop.answers["DATA"] = SILENCE
    one = await stack.put("a@one.test")
    async with stack.drain(grace=0.1, lease=timedelta(seconds=0.6)):
        await until(lambda: "DATA" in stack.hop.lines)
        begun = time.monotonic()
        while time.monotonic() - begun < 1.2:  # longer than the lease, with somebody reaping all the time
            assert await stack.outbox.reap(now=clock.now()) == 0
            await asyncio.sleep(0.02)
        assert await stack.states(one) == (State.SENDING,)


async def test_a_dead_lane_does_not_delay_the_living(settings):
    """Lanes whose hop is silent hold their connections; mail in other lanes goes out at once."""
    answers = {"MAIL": lambda _: "250 ok"}
    async with NextHop(answers) as hop:
        stack = Stack(settings, hop)
        hop.answers["RCPT"] = lambda line: SILENCE if "dead" in line else "250 ok"
        for n in range(100):
            await stack.put(f"{n}@dead.test")
        async with stack.drain(grace=0.1, lane_connections=2, worker_connections=4):
            await until(lambda: any("dead" in line for line in hop.lines))
            living = [await stack.put(f"{n}@live{n}.test") for n in range(20)]

            async def through():
                return all([await stack.states(i) == (State.DELIVERED,) for i in living])

            await until(through, seconds=5)
            assert sum("dead" in line for line in hop.lines) == 1  # one connection waits, the others work
        await stack.redis.aclose()


async def test_receipts_settle_what_a_killed_worker_delivered(stack):
    """A worker that died between the 250 and the settle leaves a receipt: its next life settles, and sends nothing."""
    one = await stack.put("a@one.test")

    async def never(*_args, **_options):
        raise ConnectionError("the queue never answers a settle")

    async with stack.drain(grace=0.1) as drain:
        drain._parts.finisher._outbox.settle_all = never
        await until(lambda: len(stack.hop.received) == 1)
        await until(lambda: drain._parts.finisher.blocked)
    assert await stack.states(one) == (State.SENDING,)
    async with stack.drain():
        await until(lambda: stack.all_are(State.DELIVERED))
    assert len(stack.hop.received) == 1


async def test_the_drain_survives_the_queue(tmp_path, settings):
    """The queue is killed and comes back under load: every mail arrives, exactly once, and the worker never ends."""
    with ValkeyServer(tmp_path / "own") as server:
        async with NextHop() as hop:
            stack = Stack(settings.model_copy(update={"redis_url": SecretStr(server.url())}), hop)
            for n in range(300):
                await stack.put(f"{n}@lane{n % 10}.test")
            slow = asyncio.Event()
            hop.answers["dot"] = lambda _: slow.set() or "250 ok"
            async with stack.drain(claim_batch=5):
                await slow.wait()
                server.kill()
                await stack.redis.connection_pool.disconnect()
                await asyncio.sleep(0.5)
                server.start()
                await until(lambda: stack.all_are(State.DELIVERED))
            recipients = [r.recipients[0] for r in hop.received]
            assert sorted(recipients) == sorted(set(recipients))
            assert len(recipients) == 300
            await stack.redis.aclose()


async def test_a_hung_queue_costs_no_outcome(tmp_path, settings):
    """The queue hangs for longer than its calls wait: outcomes are kept and settled, nothing is sent twice."""
    with ValkeyServer(tmp_path / "own") as server:
        async with NextHop() as hop:
            stack = Stack(settings.model_copy(update={"redis_url": SecretStr(server.url())}), hop)
            for n in range(60):
                await stack.put(f"{n}@lane{n % 3}.test")
            begun = asyncio.Event()
            hop.answers["dot"] = lambda _: begun.set() or "250 ok"
            async with stack.drain(claim_batch=5, lease=timedelta(seconds=3)):
                await begun.wait()
                server.pause()
                await asyncio.sleep(3)
                server.resume()
                await until(lambda: stack.all_are(State.DELIVERED), seconds=40)
            assert len(hop.received) == 60
            await stack.redis.aclose()


async def test_a_worker_that_ended_is_given_no_mail(stack):
    """An idle one may be given mail with the call; from its end on, mail is called for."""
    await stack.put("ann@one.test")
    async with stack.drain():
        await until(lambda: stack.all_are(State.DELIVERED))
        await until(lambda: stack.redis.zcard(f"{{{stack.settings.queue_prefix}}}:idle"))
    two = await stack.put("bob@one.test")
    assert await stack.states(two) == (State.QUEUED,)
    assert (await stack.outbox.wait(10, channel="", now=clock.now())).lane == "one.test"
