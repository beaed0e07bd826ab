"""Ended messages cost the queue next to nothing once they are archived, and can still be asked for."""

from dataclasses import replace
from datetime import timedelta

import pytest

from outbox.archiving import archive_once
from outbox.message import Attempt, Outcome
from outbox.queue import Cancel, Outbox, Reschedule
from outbox.retire import retire_once
from outbox.states import LastEvent, State
from runtime.clock import now
from runtime.connections import redis_async, redis_sync
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.mail import NOON, a_submission, an_attempt, an_entry

LATER = NOON + timedelta(minutes=1)
MUCH_LATER = NOON + timedelta(hours=1)


@pytest.fixture
async def outbox(settings):
    redis = redis_async(settings, timeout=5)
    yield Outbox(redis, settings)
    await redis.aclose()


@pytest.fixture
def tail(settings):
    with redis_sync(settings) as client:
        yield client


async def deliver(outbox, mails, *, complained=False, at=NOON):
    """All to the end."""
    for lane in ("one.test", "two.test"):
        for claim in await outbox.claim(lane, channel="w#1", limit=len(mails), now=at):
            attempt = an_attempt(claim, code=250, status="2.0.0", text="OK")
            attempt = replace(attempt, complained=(0,) if complained else ())
            await outbox.settle(claim, attempt, worker="w", now=at, next_attempt_at=None)


async def accept(outbox, *addresses, **fields):
    mail = a_submission(*addresses, **fields)
    await outbox.append([an_entry(mail).arguments(NOON)])
    return mail


def kept(tail, settings, mail):
    """Kinds of keys that are left of a message."""
    return {key.decode().split(":")[1] for key in tail.keys(f"{{{settings.queue_prefix}}}:?:{mail.message.id}")}


async def test_contents_leave_with_the_archive(outbox, tail, settings):
    """Ended and archived, a message has no content in memory; one that waits keeps all it needs."""
    ended, waiting = await accept(outbox), await accept(outbox, "ann@three.test")
    await deliver(outbox, [ended])
    assert archive_once(tail, settings, now=LATER) == 3
    assert kept(tail, settings, ended) == {"m"}
    assert kept(tail, settings, waiting) == {"m", "c"}
    (claim,) = await outbox.claim("three.test", channel="w#2", limit=1, now=NOON)
    assert claim.content == waiting.content


async def test_a_content_that_is_archived_leaves_with_the_last_settle(outbox, tail, settings):
    """A message that waited for long was archived long ago: nothing is kept for a later chore."""
    mail = await accept(outbox, "ann@one.test", "bob@two.test")
    archive_once(tail, settings, now=LATER)
    (first,) = await outbox.claim("one.test", channel="w#1", limit=1, now=NOON)
    await outbox.settle(first, an_attempt(first), worker="w", now=NOON, next_attempt_at=None)
    assert kept(tail, settings, mail) == {"m", "c"}, "half of it is still to be done"
    await deliver(outbox, [mail])
    assert kept(tail, settings, mail) == {"m"}


async def test_a_compacted_message_is_shown_as_before(outbox, tail, settings):
    """States, schedule, complaint and content of every kind of end, by id and in the list."""
    delivered = await accept(outbox, "ann@one.test")
    await deliver(outbox, [delivered], complained=True)
    mixed = await accept(outbox, "ann@one.test", "bob@one.test", "cat@two.test")
    for lane, states in (("one.test", (State.FAILED, State.DELIVERED)), ("two.test", (State.SUPPRESSED,))):
        (claim,) = await outbox.claim(lane, channel="w#1", limit=1, now=NOON)
        outcomes = tuple(Outcome(r, state) for r, state in zip(claim.recipients, states, strict=True))
        await outbox.settle(claim, Attempt(NOON, "mx", outcomes), worker="w", now=NOON, next_attempt_at=None)
    moved = await accept(outbox, scheduled_at=LATER)
    assert await outbox.reschedule(moved.message.id, MUCH_LATER, now=NOON) is Reschedule.RESCHEDULED
    assert await outbox.cancel(moved.message.id, now=NOON) is Cancel.CANCELLED
    before = [await outbox.find(m.message.id, content=True) for m in (delivered, mixed, moved)]
    listed = await outbox.newest(limit=10)
    archive_once(tail, settings, now=LATER)
    assert all(kept(tail, settings, m) == {"m"} for m in (delivered, mixed, moved))
    after = [await outbox.find(m.message.id, content=True) for m in (delivered, mixed, moved)]
    for old, new in zip(before, after, strict=True):
        assert (new.message, new.states, new.complained) == (old.message, old.states, old.complained)
        assert new.content is not None
    assert [view.last_event for view in after] == [LastEvent.COMPLAINED, LastEvent.BOUNCED, LastEvent.CANCELED]
    assert [v.message for v in await outbox.newest(limit=10)] == [v.message for v in listed]


async def test_an_ended_message_stays_ended(outbox, tail, settings):
    """Nothing can be done to a compacted message: not cancelled, moved, claimed, settled late or accepted again."""
    mail, cancelled = await accept(outbox), await accept(outbox, "ann@two.test")
    await outbox.cancel(cancelled.message.id, now=NOON)
    (claim,) = await outbox.claim("one.test", channel="w#1", limit=1, now=NOON)
    await outbox.settle(claim, an_attempt(claim), worker="w", now=NOON, next_attempt_at=None)
    archive_once(tail, settings, now=LATER)
    assert await outbox.cancel(mail.message.id, now=LATER) is Cancel.ENDED
    assert await outbox.cancel(cancelled.message.id, now=LATER) is Cancel.CANCELLED
    assert await outbox.reschedule(mail.message.id, MUCH_LATER, now=LATER) is Reschedule.NOT_SCHEDULED
    assert not await outbox.settle(claim, an_attempt(claim), worker="w", now=LATER, next_attempt_at=None)
    assert await outbox.append([an_entry(mail).arguments(LATER)]) == [[b"stored", 0]]
    assert await outbox.claim("one.test", channel="w#1", limit=1, now=LATER) == []
    assert kept(tail, settings, mail) == {"m"}


async def test_another_machines_archive_is_left_to_the_history(outbox, tail, settings, tmp_path):
    """Where the segment is not at hand the outbox knows nothing, and the API asks the history."""
    mail = await accept(outbox)
    await deliver(outbox, [mail])
    archive_once(tail, settings, now=LATER)
    (tmp_path / "empty").mkdir()
    elsewhere = Outbox(outbox._redis, settings.model_copy(update={"archive_url": str(tmp_path / "empty")}))
    assert await elsewhere.find(mail.message.id) is None
    assert await elsewhere.newest(limit=5) == []


async def test_a_recent_mail_is_read_over_http_without_any_database(settings, tail):
    """With control and database away GET answers html and text of a mail whose content left the queue."""
    async with running(settings, with_control=False) as api:
        email_id = (await api.client.post("/emails", json=MAIL)).json()["id"]
        before = (await api.client.get(f"/emails/{email_id}")).json()
        (claim,) = await api.parts.outbox.claim("there.test", channel="w#1", limit=1, now=now())
        await api.parts.outbox.settle(claim, an_attempt(claim), worker="w", now=now(), next_attempt_at=None)
        archive_once(tail, settings, now=now() + timedelta(minutes=1))
        assert not tail.exists(f"{{{settings.queue_prefix}}}:c:{email_id}")
        after = (await api.client.get(f"/emails/{email_id}")).json()
        assert after == before | {"last_event": "delivered", "nightmail": after["nightmail"]}
        assert [recipient["state"] for recipient in after["nightmail"]["recipients"]] == ["delivered"]
        assert after["html"] == MAIL["html"]


async def test_an_ended_mail_costs_less_than_400_bytes_and_then_nothing(outbox, tail, settings):
    """Message, index and retirement together, by the server's own count; the events kept are a fixed number."""
    mails = [a_submission("ann@one.test", content=b"x" * 2_000) for _ in range(300)]
    await outbox.append([an_entry(*mails).arguments(NOON)])
    await deliver(outbox, mails)
    while archive_once(tail, settings, now=LATER):
        pass
    prefix = f"{{{settings.queue_prefix}}}"
    keys = [*tail.keys(f"{prefix}:[mc]:*"), f"{prefix}:ended", f"{prefix}:recent", f"{prefix}:index"]
    cost = sum(tail.memory_usage(key, samples=0) or 0 for key in keys) / len(mails)
    assert cost <= 400, cost
    assert retire_once(tail, settings, now=MUCH_LATER) == 300
    assert tail.keys(f"{prefix}:[mc]:*") == []
    assert not tail.exists(f"{prefix}:ended", f"{prefix}:recent", f"{prefix}:index")
