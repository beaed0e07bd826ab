"""The audit: every recipient accepted is accounted for, and one that is not is named and put back."""

import shutil

import pytest

from nightmail.commands.audit import _words
from outbox.audit import Audit
from outbox.backlog import backlog
from outbox.entry import Entry
from outbox.queue import Cancel
from outbox.states import State
from runtime import clock
from runtime.clock import to_ms
from tests.fixtures.machine import HOUR, running
from tests.fixtures.mail import a_submission
from worker.audits import Audits


@pytest.fixture
async def machine(settings):
    async with running(settings) as machine:
        yield machine


def audit(machine, *, repair=False, **parts):
    return Audit(machine.blocking, machine.settings, now=clock.now(), **parts).run(repair=repair)


async def mixed_mail(machine):
    """One recipient in each end, and three that live."""
    ids = [await machine.accept(f"ann@{name}.test") for name in ("sent", "refused", "suppressed", "cancelled", "waits")]
    await machine.accept("ann@later.test", "bob@later.test", scheduled_at=clock.now() + HOUR)
    await machine.attempt(ids[0], State.DELIVERED)
    await machine.attempt(ids[1], State.FAILED)
    await machine.attempt(ids[2], State.SUPPRESSED)
    assert await machine.outbox.cancel(ids[3], now=clock.now()) is Cancel.CANCELLED
    return ids


async def forget(machine, *ids):
    """As a bug, or a hand, would: the queue loses messages, and keeps its mark."""
    for message_id in ids:
        lane = (await machine.outbox.find(message_id)).message.recipients[0].domain
        prefix = f"{{{machine.settings.queue_prefix}}}"
        await machine.redis.delete(f"{prefix}:m:{message_id}", f"{prefix}:c:{message_id}")
        await machine.redis.zrem(f"{prefix}:lane:{lane}", f"{message_id}/0")
        await machine.redis.zrem(f"{prefix}:lanes", lane)
        await machine.redis.zrem(f"{prefix}:index", message_id)


@pytest.mark.parametrize("archived", [False, True])
async def test_the_sums_hold(machine, archived):
    """Accepted = delivered + failed + suppressed + cancelled + live, before and after the queue forgot the ended."""
    await mixed_mail(machine)
    if archived:
        assert machine.archive()
    found = audit(machine)
    ends = (found.delivered, found.failed, found.suppressed, found.cancelled, found.live)
    assert (found.holds, found.messages, found.accepted, ends) == (True, 6, 7, (1, 1, 1, 1, 3))
    assert (await backlog(machine.redis, machine.settings, now=clock.now())).audit["unaccounted"] == 0


@pytest.mark.parametrize("archived", [False, True])
async def test_an_orphan_is_named_and_put_back(machine, archived):
    """Accepted, not ended, and in no queue: it is named; `--repair` puts it back, with its content, to be delivered."""
    ids = await mixed_mail(machine)
    before = await machine.outbox.find(ids[4], content=True)
    if archived:  # then the content lies in the archive, too, and no journal is needed
        machine.archive()
        shutil.rmtree(machine.settings.data_dir / "journal" / "api-1")
    await forget(machine, ids[4])
    found = audit(machine)
    assert (found.holds, found.unaccounted, found.orphans) == (False, 1, [ids[4]])
    assert f"orphan: {ids[4]}" in _words(found)
    repaired = audit(machine, repair=True)
    assert (repaired.holds, repaired.repaired, repaired.live) == (True, 1, 3)
    assert await machine.outbox.find(ids[4], content=True) == before
    (claim,) = await machine.outbox.claim("waits.test", channel="w", limit=9, now=clock.now())
    assert claim.content == before.content
    assert audit(machine).repaired == 0


@pytest.fixture
async def scattered(machine):
    """Mail in each state that lives, by the keys that hold its place."""
    prefix = f"{{{machine.settings.queue_prefix}}}"
    kept = {name: await machine.accept(f"ann@{name}.test") for name in ("waits", "deferred", "sending", "held")}
    kept["scheduled"] = await machine.accept("ann@scheduled.test", scheduled_at=clock.now() + HOUR)
    await machine.attempt(kept["deferred"], State.DEFERRED)
    for name in ("sending", "held"):
        (claim,) = await machine.outbox.claim(f"{name}.test", channel="w", limit=9, now=clock.now())
        if name == "held":
            assert await machine.outbox.hold(claim, reason="test", now=clock.now())
    places = {name: f"{prefix}:lane:{name}.test" for name in kept}
    return kept, places | {"sending": f"{prefix}:leases", "held": f"{prefix}:held"}


async def test_mail_that_is_nowhere_due_is_an_orphan(machine, scattered):
    """The queue has it, and no lane, lease or list does, since somebody deleted keys: it is named and put back."""
    kept, places = scattered
    before = {name: await machine.states(message_id) for name, message_id in kept.items()}
    assert audit(machine).holds
    await machine.redis.delete(*places.values())
    found = audit(machine)
    assert (found.holds, found.live, found.unaccounted) == (False, 0, 5)
    assert sorted(found.orphans) == sorted(kept.values())
    repaired = audit(machine, repair=True)
    assert (repaired.holds, repaired.repaired, repaired.live) == (True, 5, 5)
    assert await machine.redis.zrange(places["held"], 0, -1) == [f"{kept['held']}/0".encode()]
    after = {name: await machine.states(message_id) for name, message_id in kept.items()}
    assert after == before | {"sending": (State.QUEUED,)}
    assert audit(machine).repaired == 0
    for name, hours in (("waits", 0), ("deferred", 0), ("sending", 0), ("scheduled", 2)):
        claimed = await machine.outbox.claim(f"{name}.test", channel="x", limit=9, now=clock.now() + hours * HOUR)
        assert [(c.message.id, c.possible_duplicate) for c in claimed] == [(kept[name], name == "sending")]


async def test_scheduled_mail_is_put_back_for_its_time(machine, scattered):
    """It is not sent early because its place was lost."""
    kept, places = scattered
    await machine.redis.delete(places["scheduled"])
    assert audit(machine, repair=True).repaired == 1
    assert not await machine.outbox.claim("scheduled.test", channel="x", limit=9, now=clock.now())
    view = await machine.outbox.find(kept["scheduled"])
    assert await machine.redis.zscore(places["scheduled"], f"{kept['scheduled']}/0") == to_ms(view.message.scheduled_at)


async def test_a_lane_that_no_worker_looks_at_is_found(machine, scattered):
    """Work in a lane that is not among the lanes is not due either; listed again, it keeps its time."""
    kept, places = scattered
    due = await machine.redis.zscore(places["deferred"], f"{kept['deferred']}/0")
    await machine.redis.delete(f"{{{machine.settings.queue_prefix}}}:lanes")
    assert sorted(audit(machine).orphans) == sorted(kept[name] for name in ("waits", "deferred", "scheduled"))
    assert audit(machine, repair=True).holds
    assert await machine.redis.zscore(places["deferred"], f"{kept['deferred']}/0") == due
    assert audit(machine).holds


async def test_the_history_may_know_the_end(machine):
    """A message that only the history remembers as ended is no orphan; nobody else is asked about the others."""
    ids = await mixed_mail(machine)
    await forget(machine, ids[4])
    asked = []
    found = audit(machine, ended_in_history=lambda message_id: asked.append(message_id) or True)
    assert (found.holds, asked) == (True, [ids[4]])


async def test_what_only_the_journal_has_is_live(machine):
    """An accept that waits for the queue is nobody's orphan; a repeat of an earlier request counts not at all."""
    waits, repeat = a_submission("ann@one.test", "bob@one.test"), a_submission()
    journal = machine.drain_journal
    await journal.append(*Entry.plain([waits]).record(confirmed=False))
    await journal.append(*Entry.plain([repeat]).record(confirmed=False))
    await journal.append({"kind": "confirmed", "ids": [repeat.message.id], "repeat": True})
    found = audit(machine)
    assert (found.holds, found.accepted, found.live, found.in_journal_only) == (True, 2, 2, 2)


async def test_a_lost_queue_is_not_audited(machine):
    """Everything would be an orphan: the audit says that the queue is lost, and repairs nothing."""
    await mixed_mail(machine)
    await machine.redis.flushdb()
    found = audit(machine, repair=True)
    assert (found.holds, found.queue, found.repaired) == (False, "lost", 0)
    await machine.rebuild()
    found = audit(machine)
    assert (found.holds, found.accepted, found.live, found.cancelled) == (True, 7, 4, 0)  # nobody noted the cancel


async def test_a_damaged_archive_is_told(machine):
    """What cannot be read is not guessed: the audit does not hold, and says why."""
    await mixed_mail(machine)
    machine.archive()
    (segment,) = (machine.settings.data_dir / "archive").glob("events-*")
    segment.write_bytes(b"damage")
    found = audit(machine)
    assert not found.holds
    assert any("damaged" in gap for gap in found.gaps)


async def test_the_chore_leaves_its_result_in_the_queue(machine):
    """It runs beside the other chores, one at a time, and rests in proportion to the time it took."""
    await mixed_mail(machine)
    now = [0.0]
    audits = Audits(machine.settings, monotonic=lambda: now[0])
    assert audits.begin()
    audits.wait(10)
    assert (await backlog(machine.redis, machine.settings, now=clock.now())).audit["accepted"] == 7
    assert audits.begin()
    audits.wait(10)
