"""A queue that lost its memory: nothing is delivered from it, and a rebuild brings back what the disks know."""

import asyncio
import shutil
from functools import partial

import pytest
from pydantic import SecretStr

from outbox.backlog import backlog
from outbox.errors import QueueLost
from outbox.ids import Idempotency
from outbox.journal import Journal
from outbox.policy import Policy
from outbox.policy_store import PolicyStore
from outbox.queue import Cancel, Reschedule
from outbox.rebuild import CannotRebuild, Rebuild
from outbox.retire import retire_once
from outbox.states import State
from outbox.stream import EventSource
from runtime import clock
from tests.fixtures.machine import HOUR, running
from tests.fixtures.mail import a_submission
from tests.fixtures.next_hop import NextHop
from tests.fixtures.valkey import ValkeyServer
from tests.fixtures.waiting import until
from worker.process import delivering


@pytest.fixture
async def machine(settings):
    async with running(settings) as machine:
        yield machine


async def test_emptied_queue_refuses_all_work(machine):
    """After FLUSHDB nothing can be claimed, settled or accepted into the queue, and the backlog says lost."""
    await machine.accept("ann@one.test")
    claims = await machine.outbox.claim("one.test", channel="w", limit=9, now=clock.now())
    await machine.redis.flushdb()
    with pytest.raises(QueueLost):
        await machine.outbox.claim("one.test", channel="w", limit=9, now=clock.now())
    with pytest.raises(QueueLost):
        await machine.outbox.release(claims, now=clock.now())
    message_id = await machine.accept("bob@one.test")
    assert not await machine.redis.exists(f"{{{machine.settings.queue_prefix}}}:seq")
    assert (await backlog(machine.redis, machine.settings, now=clock.now())).queue == "lost"
    await machine.rebuild()
    assert (await machine.states(message_id)) == (State.QUEUED,)
    assert (await backlog(machine.redis, machine.settings, now=clock.now())).queue == "ok"


async def test_every_state_comes_back(machine):
    """Queued, scheduled, deferred, partly ended and cancelled mail are what they were; ended mail stays ended."""
    queued = await machine.accept("ann@queued.test")
    deferred = await machine.accept("ann@deferred.test")
    delivered = await machine.accept("ann@delivered.test")
    partly = await machine.accept("ann@partly.test", "bob@waits.test")
    cancelled = await machine.accept("ann@cancelled.test")
    scheduled = await machine.accept("ann@later.test", scheduled_at=clock.now() + HOUR)
    receipt = await machine.attempt(deferred, State.DEFERRED, code=450, text="later")
    await machine.attempt(delivered, State.DELIVERED, code=250)
    await machine.attempt(partly, State.FAILED, code=550)
    assert await machine.outbox.cancel(cancelled, now=clock.now()) is Cancel.CANCELLED
    await machine.acceptor.note("cancelled", cancelled)
    moved = clock.now() + 3 * HOUR
    assert await machine.outbox.reschedule(scheduled, moved, now=clock.now()) is Reschedule.RESCHEDULED
    await machine.acceptor.note("rescheduled", scheduled, scheduled_at=clock.to_ms(moved))
    ids = (queued, deferred, delivered, partly, cancelled, scheduled)
    before = [await machine.outbox.find(i) for i in ids]
    counts = (await backlog(machine.redis, machine.settings, now=clock.now())).states
    await machine.redis.flushdb()
    done = await machine.rebuild()
    assert [await machine.outbox.find(i) for i in ids] == before
    assert (await backlog(machine.redis, machine.settings, now=clock.now())).states == counts
    assert (done.restored, done.waiting, done.in_doubt) == (6, 4, 0)
    lane = await machine.redis.zrange(f"{{{machine.settings.queue_prefix}}}:lane:deferred.test", 0, -1, withscores=True)
    assert lane == [(f"{deferred}/0".encode(), clock.to_ms(receipt.next_attempt_at))]
    (claim,) = await machine.outbox.claim("deferred.test", channel="w", limit=1, now=clock.now() + 2 * HOUR)
    assert (claim.attempts, claim.possible_duplicate) == (1, False)


async def test_a_receipt_counts_although_the_queue_never_learned_of_it(machine):
    """The next hop said 250, the receipt was written, and the queue was emptied before the settle: not sent again."""
    delivered = await machine.accept("ann@one.test")
    receipt = await machine.attempt(delivered, State.DELIVERED, settle=False)
    await machine.redis.flushdb()
    await machine.rebuild()
    assert await machine.states(delivered) == (State.DELIVERED,)
    assert not await machine.settle(receipt)


@pytest.mark.parametrize("how", ["alone", "behind another"])
async def test_what_was_begun_and_not_ended_is_flagged(machine, how):
    """Nobody knows whether the next hop has it: it goes out again, flagged, and an old token settles nothing."""
    before = await machine.accept("bob@two.test")
    message_id = await machine.accept("ann@one.test")
    (claim,) = await machine.outbox.claim("one.test", channel="w", limit=1, now=clock.now())
    if how == "alone":
        machine.receipts.begin(claim)
    else:
        machine.receipts.write(await machine.attempt(before, State.DELIVERED), begins=claim)
    await machine.redis.flushdb()
    assert (await machine.rebuild()).in_doubt == 1
    (again,) = await machine.outbox.claim("one.test", channel="w", limit=1, now=clock.now())
    assert (again.message.id, again.possible_duplicate) == (message_id, True)
    assert again.token > claim.token


async def test_events_go_on_behind_a_declared_seam(machine):
    """What was archived stands; what was lost with the stream is told again behind a `rebuilt` event; no gap."""
    archived = await machine.accept("ann@one.test")
    await machine.attempt(archived, State.DELIVERED)
    assert machine.archive()
    lost = await machine.accept("bob@one.test")
    await machine.attempt(lost, State.DELIVERED)
    await machine.redis.flushdb()
    done = await machine.rebuild()
    events = machine.events()
    assert [event.kind for event in events] == ["accepted", "attempted", "rebuilt", "accepted", "attempted"]
    assert (events[1].number, events[2].number) == (done.after, done.begins)
    assert [e.fields["id"] for e in events[3:]] == [lost, lost]
    assert all(event.fields["restored"] for event in events[3:])
    for checkpoint in range(done.after, done.after + 3):  # a recorder that had read some of the lost events, too
        assert EventSource(machine.blocking, machine.settings).read(checkpoint, 9)[0].event.kind == "rebuilt"
    assert machine.archive()
    assert [e.number for e in machine.events()] == [e.number for e in events]
    assert machine.blocking.xtrim(f"{{{machine.settings.queue_prefix}}}:events", maxlen=0)
    assert [e.number for e in machine.events()] == [e.number for e in events]  # over the seam in the archive


async def test_ended_and_archived_mail_needs_no_receipt(machine):
    """The archive alone keeps what ended long ago from going out again."""
    message_id = await machine.accept("ann@one.test")
    await machine.attempt(message_id, State.DELIVERED)
    machine.archive()
    shutil.rmtree(machine.settings.data_dir / "journal" / "drain-1")
    await machine.redis.flushdb()
    done = await machine.rebuild()
    assert done.restored == 0
    assert await machine.outbox.find(message_id) is None


async def test_chores_leave_a_lost_queue_alone(machine):
    """Archiving, compacting and retiring are fenced as everything else: they say lost, and change no key."""
    message_id = await machine.accept("ann@one.test")
    await machine.attempt(message_id, State.DELIVERED)
    await machine.outbox.look()
    await machine.redis.set(machine.outbox._memory.keys[0], "another")
    before = sorted(await machine.redis.keys())
    for chore in (machine.archive, partial(retire_once, machine.blocking, machine.settings, now=clock.now() + HOUR)):
        with pytest.raises(QueueLost):
            chore()
    assert sorted(await machine.redis.keys()) == before


async def test_two_machines_rebuild_one_queue(settings, tmp_path):
    """One machine rebuilds with the data folder of the other, which then adopts the queue: all mail is there, once."""
    shared = {"archive_url": str(tmp_path / "archive"), "secret": settings.secret}
    here, there = (
        settings.model_copy(update={"node": name, "data_dir": tmp_path / name, **shared}) for name in ("a", "b")
    )
    async with running(here) as a, running(there) as b:
        ids = [await machine.accept(f"{n}@one.test") for machine in (a, b) for n in range(3)]
        sent = await b.accept("ann@sent.test")
        await b.attempt(sent, State.DELIVERED, settle=False)
        await asyncio.gather(a.outbox.look(), b.outbox.look())
        await a.redis.flushdb()
        late = await b.accept("ann@late.test")
        rebuild = Rebuild(a.blocking, here, now=clock.now(), others=[there.data_dir])
        done = await asyncio.to_thread(rebuild.run, patience=0.0)
        assert (done.restored, done.waiting) == (8, 7)
        assert await a.states(sent) == (State.DELIVERED,)
        with pytest.raises(QueueLost):
            await b.outbox.claim("one.test", channel="b", limit=9, now=clock.now())
        Rebuild(b.blocking, there, now=clock.now()).adopt()
        assert len(await b.outbox.claim("one.test", channel="b", limit=9, now=clock.now())) == len(ids)
        await until(lambda: not b.acceptor._reinjector.segments)
        assert len(await a.outbox.claim("late.test", channel="a", limit=9, now=clock.now())) == 1
        assert await a.states(late) == (State.SENDING,)


async def test_twice_is_once(machine):
    """A second rebuild finds a queue with its memory; one that was killed midway is taken up where it was."""
    ids = [await machine.accept(f"ann@{n}.test") for n in range(5)]
    await machine.redis.flushdb()
    await machine.rebuild()
    seq = await machine.redis.get(f"{{{machine.settings.queue_prefix}}}:seq")
    assert not (await machine.rebuild()).needed
    generation = await machine.redis.get(f"{{{machine.settings.queue_prefix}}}:generation")
    await machine.redis.set(f"{{{machine.settings.queue_prefix}}}:generation", b"rebuilding-" + generation)
    assert (await machine.rebuild()).needed
    assert await machine.redis.get(f"{{{machine.settings.queue_prefix}}}:seq") == seq
    assert (await backlog(machine.redis, machine.settings, now=clock.now())).states == {"queued": len(ids)}


async def test_dry_run_changes_nothing(machine):
    """It says what would be done, and the queue stays lost."""
    await machine.accept("ann@one.test")
    await machine.redis.flushdb()
    assert (await machine.rebuild(dry=True)).waiting == 1
    assert await machine.redis.dbsize() == 0
    assert (await machine.rebuild()).waiting == 1


async def test_emptied_again_during_the_rebuild(machine):
    """Numbers still only grow, so a recorder that read the first try's events meets no number twice."""
    await machine.accept("ann@one.test")
    await machine.redis.flushdb()
    first = await machine.rebuild()
    await machine.redis.flushdb()
    second = await machine.rebuild()
    assert second.begins > first.begins
    assert (await backlog(machine.redis, machine.settings, now=clock.now())).depth == 1


async def test_keys_and_idempotency_come_back(machine):
    """API keys are as this machine's snapshot has them, and a repeated request gets its first answer."""
    policy = Policy(machine.redis, machine.settings)
    key, token = await PolicyStore(machine.redis, machine.settings).create_key("one")
    await policy.refresh()
    idempotency = Idempotency("POST /emails", "k", "print")
    (message_id,) = machine.acceptor.mint(1, idempotency)
    submission = a_submission("ann@one.test", now=clock.now(), id=message_id)
    await machine.acceptor.accept([submission], idempotency)
    await machine.redis.flushdb()
    await machine.rebuild()
    again = await machine.acceptor.accept([submission], idempotency)
    assert (again.ids, again.replayed) == ((message_id,), True)
    assert [k.id for k in await PolicyStore(machine.redis, machine.settings).list_keys()] == [key.id]
    fresh = Policy(machine.redis, machine.settings)
    await fresh.refresh()
    assert fresh.authenticate(token).id == key.id


async def test_a_rebuild_tells_no_secrets(machine):
    """Policy objects come back whole, and the events about it have neither digests nor sealed keys."""
    store = PolicyStore(machine.redis, machine.settings)
    await store.create_key("one")
    await store.put("domain", "ours.test", {"name": "ours.test", "keys": [{"selector": "s", "sealed": "private"}]})
    await Policy(machine.redis, machine.settings).refresh()
    await machine.redis.flushdb()
    await machine.rebuild()
    assert (await store.get("domain", "ours.test"))["keys"][0]["sealed"] == "private"
    told = [event.fields["value"] for event in machine.events() if event.kind == "policy_changed"]
    assert {"selector": "s"} in [key for value in told for key in value.get("keys", ())]
    assert not any("private" in str(value) or "digest" in value for value in told)


async def test_a_damaged_archive_needs_a_persons_word(machine):
    """Without the archive's word on what ended, mail could go out twice: refused, unless somebody says so."""
    message_id = await machine.accept("ann@one.test")
    machine.archive()
    (segment,) = (machine.settings.data_dir / "archive").glob("events-*")
    segment.write_bytes(segment.read_bytes()[:-3] + b"xyz")
    await machine.redis.flushdb()
    with pytest.raises(CannotRebuild, match="damaged"):
        await machine.rebuild()
    await machine.rebuild(despite_gaps=True)
    assert await machine.states(message_id) == (State.QUEUED,)


async def test_old_file_restored(settings, tmp_path):
    """A queue from an old append-only file has the mark and too low a number: lost as well, and merged by a rebuild."""
    with ValkeyServer(tmp_path / "valkey") as server:
        ours = settings.model_copy(update={"redis_url": SecretStr(server.url())})
        async with running(ours) as machine:
            kept = await machine.accept("ann@kept.test")
            sent = await machine.accept("ann@sent.test")
            server.stop()
            shutil.copytree(server.folder / "appendonlydir", tmp_path / "old")
            server.start()
            await machine.redis.connection_pool.disconnect()
            await until(lambda: not machine.inlet.is_open)
            await machine.attempt(sent, State.DELIVERED)
            newer = await machine.accept("ann@newer.test")
            await machine.outbox.look()  # as the watch does each half second
            server.stop()
            shutil.rmtree(server.folder / "appendonlydir")
            shutil.copytree(tmp_path / "old", server.folder / "appendonlydir")
            server.start()
            await machine.redis.connection_pool.disconnect()
            with pytest.raises(QueueLost):
                await machine.outbox.claim("sent.test", channel="w", limit=1, now=clock.now())
            await machine.rebuild()
            assert [await machine.states(i) for i in (kept, sent, newer)] == [
                (State.QUEUED,),
                (State.DELIVERED,),
                (State.QUEUED,),
            ]
            assert (await backlog(machine.redis, ours, now=clock.now())).states == {"queued": 2, "delivered": 1}
            kinds = [event.kind for event in machine.events()]
            assert kinds == ["accepted", "accepted", "rebuilt", "attempted", "accepted"] or sorted(kinds) == sorted(
                ["accepted", "accepted", "rebuilt", "attempted", "accepted"]
            )


async def test_damaged_file_refused_by_the_server(settings, tmp_path):
    """The server does not start with a damaged file; in an empty one's place the journals fill the queue again."""
    with ValkeyServer(tmp_path / "valkey") as server:
        ours = settings.model_copy(update={"redis_url": SecretStr(server.url())})
        async with running(ours) as machine:
            ids = [await machine.accept(f"ann@{n}.test") for n in range(20)]
            await machine.outbox.look()
            server.stop()
            (log,) = (server.folder / "appendonlydir").glob("*.incr.aof")
            octets = bytearray(log.read_bytes())
            middle = octets.index(b"\r\n$", len(octets) // 2)
            octets[middle : middle + 7] = b"\0" * 7
            log.write_bytes(octets)
            with pytest.raises(AssertionError, match="Bad file format"):
                server.start()
            meanwhile = await machine.accept("ann@meanwhile.test")
            (server.folder / "appendonlydir").rename(tmp_path / "damaged")
            server.start()
            await machine.redis.connection_pool.disconnect()
            await machine.rebuild()
            assert {s for i in (*ids, meanwhile) for s in await machine.states(i)} == {State.QUEUED}


async def test_emptied_in_mid_work(settings):
    """FLUSHALL under a working drain: each mail is taken once, unless it was in the air, and then it is flagged."""
    async with NextHop() as hop, running(settings) as machine:
        ours = settings.model_copy(update={"mailbox_smtp_port": hop.port})
        journal = Journal(ours.data_dir / "journal" / "drain-2")
        async with delivering(ours, "test:drain:2", journal, grace=2.0):
            ids = [await machine.accept(f"a{n}@{n % 7}.test") for n in range(120)]
            await until(lambda: len(hop.received) > 20)
            await machine.redis.flushdb()
            ids += [await machine.accept(f"b{n}@{n % 7}.test") for n in range(20)]
            await asyncio.to_thread(Rebuild(machine.blocking, ours, now=clock.now()).run)
            expected = {f"{'a' if n < 120 else 'b'}{n % 120}@{(n % 120) % 7}.test" for n in range(140)}
            await until(lambda: {r for mail in list(hop.received) for r in mail.recipients} >= expected)
        taken = [r for mail in hop.received for r in mail.recipients]
        flagged = [e for e in machine.events() if e.kind == "released" and e.fields["reason"] == "rebuilt"]
        assert len(taken) - len(expected) <= len(flagged)
