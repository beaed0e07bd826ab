"""The outbox's promises, held by the same tests against the fake and the real store."""

from dataclasses import replace
from datetime import timedelta

from outbox import events
from outbox.backlog import backlog
from outbox.entry import Entry
from outbox.ids import Idempotency
from outbox.message import Attempt, Outcome
from outbox.queue import Cancel, Outbox, Reschedule
from outbox.receipt import Receipt
from outbox.states import State
from runtime import clock
from runtime.clock import now as right_now
from runtime.connections import redis_async
from tests.fixtures.mail import NOON, a_submission, an_attempt, an_entry

LATER = NOON + timedelta(minutes=5)


async def put(outbox, *submissions, now=NOON):
    (reply,) = await outbox.append([an_entry(*submissions).arguments(now)])
    assert not isinstance(reply, Exception), reply
    return reply


async def claim(outbox, lane="one.test", *, channel="w#1", limit=10, now=NOON):
    return await outbox.claim(lane, channel=channel, limit=limit, now=now)


async def states(outbox, message_id):
    return (await outbox.find(message_id)).states


async def test_accepted_message_waits_in_one_lane_per_domain(outbox):
    """A message to two domains becomes a delivery in each of their lanes."""
    mail = a_submission("a@one.test", "b@two.test", "c@ONE.test")
    await put(outbox, mail)
    lanes, first_due_at = await outbox.lanes(now=NOON, limit=10)
    assert (set(lanes), first_due_at) == ({"one.test", "two.test"}, NOON)
    (delivery,) = await claim(outbox)
    assert delivery.recipients == (0, 2)
    assert delivery.content == mail.content
    assert delivery.message == mail.message


async def test_known_id_is_left_alone(outbox):
    """The second arrival of a message is a no-op: that is what makes re-injection safe."""
    mail = a_submission()
    assert await put(outbox, mail) == [b"stored", 1]
    (held,) = await claim(outbox)
    assert await put(outbox, mail) == [b"stored", 0]
    assert await claim(outbox, channel="w#2") == []
    assert await outbox.settle(held, an_attempt(held), worker="w", now=NOON, next_attempt_at=None)


async def test_what_is_known_and_what_is_new_may_come_in_one_call(outbox):
    """Of each entry only what is new is stored, with its own content, and once if it comes twice."""
    old, *new = (a_submission(f"{n}@one.test", content=b"content %d" % n) for n in range(4))
    await put(outbox, old)
    entries = [an_entry(new[0], old), an_entry(old), an_entry(new[1], new[0]), an_entry(new[2])]
    replies = await outbox.append([entry.arguments(NOON) for entry in entries])
    assert replies == [[b"stored", 1], [b"stored", 0], [b"stored", 1], [b"stored", 1]]
    claims = await claim(outbox)
    assert {each.message.id: each.content for each in claims} == {m.message.id: m.content for m in (old, *new)}
    assert (await outbox.recorded_and_archived())[0] == 4


async def test_mails_of_a_call_keep_what_they_do_not_share(outbox, redis):
    """Told once is what mails in a row share; each has its own lanes, recipients, time and state all the same."""
    receivers = [["a@1.test"], ["b@1.test"], ["c@1.test", "d@2.test", "e@1.test"], ["f@2.test"], ["g@1.test"]]
    mails = [a_submission(*each) for each in receivers] + [a_submission("h@1.test", scheduled_at=LATER)]
    await put(outbox, mails[1], mails[3])
    assert await put(outbox, *mails) == [b"stored", 4]
    assert await put(outbox, a_submission("i@1.test", now=LATER), now=LATER) == [b"stored", 1]
    for mail in mails:
        deliveries = mail.message.deliveries()
        told = {"n": str(len(deliveries)), "live": str(len(deliveries))}
        for k, delivery in enumerate(deliveries):
            told |= {f"lane:{k}": delivery.lane, f"to:{k}": ",".join(map(str, delivery.recipients))}
            told[f"state:{k}"] = "scheduled" if mail.message.scheduled_at else "queued"
        kept = await redis.hgetall(outbox._key("m", mail.message.id))
        kept = {name.decode(): value.decode() for name, value in kept.items() if name not in (b"meta", b"first")}
        assert kept == told
    assert {c.message.id for c in await claim(outbox, "2.test")} == {mails[n].message.id for n in (2, 3)}
    assert [c.message.id for c in await claim(outbox, "1.test")] == sorted(mails[n].message.id for n in (0, 1, 2, 4))
    lanes, _ = await outbox.lanes(now=LATER, limit=10)
    assert lanes == ["1.test"]


def test_what_mails_share_is_told_once():
    """Ten mails to one lane are told in twenty-seven words more than one: an id, a meta and a size each."""
    one, *more = (a_submission(f"{n}@one.test") for n in range(10))
    assert len(an_entry(one, *more).arguments(NOON).words) - len(an_entry(one).arguments(NOON).words) == 27


async def test_deliveries_of_one_message_may_be_settled_in_one_call(outbox):
    """With the last of them it has ended, and not before."""
    mail = a_submission("a@one.test", "b@two.test", "c@three.test")
    await put(outbox, mail)
    claims = [(await claim(outbox, f"{lane}.test"))[0] for lane in ("one", "two", "three")]
    receipts = [Receipt(each, an_attempt(each), NOON, None) for each in claims]
    ended = outbox._key("ended")
    assert await outbox.settle_all([receipts[0], receipts[0]], worker="w") == [True, False]
    assert not await outbox._redis.zcard(ended)
    assert await outbox.settle_all(receipts, worker="w") == [False, True, True]
    assert await outbox._redis.zcard(ended) == 1
    assert await states(outbox, mail.message.id) == (State.DELIVERED,) * 3


async def test_batch_is_taken_whole(outbox):
    """One accept of several messages is one script: all of them wait afterwards."""
    mails = [a_submission(f"{n}@one.test") for n in range(5)]
    assert await put(outbox, *mails) == [b"stored", 5]
    assert {c.message.id for c in await claim(outbox)} == {m.message.id for m in mails}


async def test_entries_of_one_call_are_each_all_or_nothing(outbox, redis):
    """Entries that meet in one call answer for themselves: a key's second use, a known id, another lane."""
    mails = [a_submission(f"{n}@{n % 2}.test") for n in range(4)]
    key = Idempotency("POST /emails", "order-17", "f" * 64)
    keyed, again = (Entry.of(mails[n : n + 1], key, day=1, retention_ms=60_000) for n in (0, 1))
    entries = [keyed, again, an_entry(mails[1], mails[2]), an_entry(mails[1]), an_entry(mails[3], mails[0])]
    replies = await outbox.append([entry.arguments(NOON) for entry in entries])
    used = keyed.first_use.encode().encode()
    assert replies == [[b"stored", 1], [b"replayed", used], [b"stored", 2], [b"stored", 0], [b"stored", 1]]
    assert await outbox.append([again.arguments(NOON)]) == [[b"replayed", used]]
    found = {c.message.id for lane in ("0.test", "1.test") for c in await claim(outbox, lane)}
    assert found == {mail.message.id for mail in mails}
    told = await redis.xrange(outbox._key("events"))
    assert [number for number, _ in told] == [f"{n}-0".encode() for n in range(1, 5)]
    assert [fields[b"e"] for _, fields in told] == [events.accepted(mails[n].message) for n in (0, 1, 2, 3)]


async def test_a_call_of_many_writes_once_what_they_share(settings):
    """Ten times the mail to one lane costs five commands a mail, not ten times all: counted by the server itself."""
    client = redis_async(settings, timeout=5)
    outbox = Outbox(client, settings)

    async def commands(mails: int) -> int:
        before = await client.info("commandstats")
        await outbox.append([an_entry(a_submission()).arguments(NOON) for _ in range(mails)])
        after = await client.info("commandstats")
        return sum(after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after)

    await commands(1)
    one, ten = await commands(1), await commands(10)
    assert ten - one <= 9 * 5
    await client.aclose()


async def test_settled_delivery_ends_once(outbox):
    """A settle with the newest token ends the delivery; the same settle again changes nothing."""
    mail = a_submission()
    await put(outbox, mail)
    (held,) = await claim(outbox)
    assert await outbox.settle(held, an_attempt(held, code=250), worker="w", now=NOON, next_attempt_at=None)
    assert await states(outbox, mail.message.id) == (State.DELIVERED,)
    assert not await outbox.settle(held, an_attempt(held, State.FAILED), worker="w", now=NOON, next_attempt_at=None)
    assert await states(outbox, mail.message.id) == (State.DELIVERED,)


async def test_stale_token_changes_nothing(outbox):
    """A worker whose lease was taken back cannot settle what another one holds now."""
    mail = a_submission()
    await put(outbox, mail)
    (stale,) = await claim(outbox)
    after = NOON + timedelta(seconds=21)
    assert await outbox.reap(now=after) == 1
    (fresh,) = await claim(outbox, channel="w#2", now=after)
    assert fresh.token > stale.token
    assert fresh.possible_duplicate
    assert not await outbox.settle(
        stale, an_attempt(stale, State.FAILED), worker="slow", now=after, next_attempt_at=None
    )
    assert await states(outbox, mail.message.id) == (State.SENDING,)
    assert await outbox.settle(fresh, an_attempt(fresh), worker="quick", now=after, next_attempt_at=None)


async def test_partial_result_retries_only_the_deferred(outbox):
    """Of 250, 450 and 550 only the 450 is tried again."""
    mail = a_submission("a@one.test", "b@one.test", "c@one.test")
    await put(outbox, mail)
    (held,) = await claim(outbox)
    outcomes = (
        Outcome(0, State.DELIVERED, 250),
        Outcome(1, State.DEFERRED, 450, "4.2.0"),
        Outcome(2, State.FAILED, 550),
    )
    assert await outbox.settle(held, Attempt(NOON, "mx", outcomes), worker="w", now=NOON, next_attempt_at=LATER)
    assert await states(outbox, mail.message.id) == (State.DELIVERED, State.DEFERRED, State.FAILED)
    assert await claim(outbox) == []
    (again,) = await claim(outbox, now=LATER)
    assert again.recipients == (1,)
    assert again.attempts == 1


async def test_released_work_is_due_at_once_and_uncounted(outbox):
    """A shutdown gives work back: nothing counts as an attempt, nothing is flagged."""
    await put(outbox, a_submission())
    claims = await claim(outbox)
    await outbox.release(claims, now=NOON)
    (again,) = await claim(outbox)
    assert again.attempts == 0
    assert not again.possible_duplicate


async def test_too_many_lost_leases_hold_the_delivery(outbox):
    """A delivery that keeps killing its worker is put aside for a person, and can be redriven."""
    mail = a_submission()
    await put(outbox, mail)
    now = NOON
    for _ in range(2):
        assert await claim(outbox, now=now)
        now += timedelta(seconds=30)
        assert await outbox.reap(now=now) == 1
    assert await states(outbox, mail.message.id) == (State.HELD,)
    assert await claim(outbox, now=now) == []
    assert await outbox.redrive(f"{mail.message.id}/0", now=now)
    assert len(await claim(outbox, now=now)) == 1


async def test_a_delivery_without_its_content_is_held(outbox):
    """It leaves the lane and the lease, counts as held, and a person can redrive it. A stale token holds nothing."""
    mail = a_submission()
    await put(outbox, mail)
    (held,) = await claim(outbox)
    assert not await outbox.hold(replace(held, token=held.token + 1), reason="content_lost", now=NOON)
    assert await outbox.hold(held, reason="content_lost", now=NOON)
    assert not await outbox.hold(held, reason="content_lost", now=NOON)
    assert await states(outbox, mail.message.id) == (State.HELD,)
    assert await outbox.reap(now=LATER) == 0
    assert await outbox.redrive(held.delivery_id, now=NOON)
    assert len(await claim(outbox)) == 1


async def test_the_queue_gets_nothing_of_a_large_content(outbox, redis, bare_settings):
    """A message that names its blob brings no octets along: not into the queue, and not out of it with a claim."""
    mail = a_submission(content=b"x" * 100_000, blob="0" * 64)
    await put(outbox, mail)
    assert not await redis.get(f"{{{bare_settings.queue_prefix}}}:c:{mail.message.id}")
    (taken,) = await claim(outbox)
    assert (taken.content, taken.message) == (b"", mail.message)


async def test_restarted_worker_gets_its_work_back_at_once(outbox):
    """Rescue takes back only that worker's leases and channels; only what it had begun is flagged."""
    await put(outbox, *(a_submission(f"{n}@one.test") for n in range(4)))
    begun, *_ = await claim(outbox, channel="w:1#1", limit=2)
    await claim(outbox, channel="w:10#1", limit=1)
    assert await outbox.rescue("w:1", begun=[begun.delivery_id], now=NOON) == 2
    again = await claim(outbox, channel="new#1", limit=10)
    assert len(again) == 3
    assert [c.delivery_id for c in again if c.possible_duplicate] == [begun.delivery_id]


async def test_orphaned_claims_of_a_channel_come_back(outbox):
    """A claim whose answer never came is taken back by the channel's name; its neighbours are left alone."""
    await put(outbox, *(a_submission(f"{n}@one.test") for n in range(2)))
    await claim(outbox, channel="w#1", limit=1)
    await claim(outbox, channel="w#11", limit=1)
    assert await outbox.rescue("w#1", begun=(), now=NOON) == 1
    (again,) = await claim(outbox, channel="w#2")
    assert not again.possible_duplicate


async def test_unknown_past_flags_everything(outbox):
    """After a power cut nobody knows what was begun: all of it may have been sent."""
    await put(outbox, *(a_submission(f"{n}@one.test") for n in range(2)))
    await claim(outbox, channel="w#1")
    assert await outbox.rescue("w", begun=None, now=NOON) == 2
    assert all(c.possible_duplicate for c in await claim(outbox, channel="w#2"))


async def test_attempt_in_doubt_flags_the_next(outbox):
    """A dot without a reply may have been a delivery: all later attempts say so, whatever becomes of those between."""
    await put(outbox, a_submission())
    now, flagged = NOON, []
    for doubt in (False, True, False, False):
        (held,) = await claim(outbox, now=now)
        flagged.append(held.possible_duplicate)
        attempt = replace(an_attempt(held, State.DEFERRED), in_doubt=doubt)
        await outbox.settle(held, attempt, worker="w", now=now, next_attempt_at=now)
    assert flagged == [False, False, True, True]


async def test_a_lost_lease_flags_all_later_attempts(outbox):
    """Also behind one that was deferred."""
    await put(outbox, a_submission())
    await claim(outbox)
    assert await outbox.reap(now=LATER) == 1
    for _ in range(2):
        (held,) = await claim(outbox, now=LATER)
        assert held.possible_duplicate
        await outbox.settle(held, an_attempt(held, State.DEFERRED), worker="w", now=LATER, next_attempt_at=LATER)


async def test_leases_go_by_the_clock_of_the_queue(outbox, monkeypatch):
    """A machine whose own clock is a minute ahead takes back nothing that others hold."""
    await outbox.look()
    await put(outbox, a_submission(now=right_now()))
    await claim(outbox, now=right_now())
    with monkeypatch.context() as ahead:
        ahead.setattr("runtime.clock.now", lambda: right_now() + timedelta(minutes=1))
        assert await outbox.reap(now=clock.now()) == 0
    assert await outbox.reap(now=right_now() + timedelta(minutes=1)) == 1, "it is late for all"


async def test_errors_are_counted_once(outbox):
    """A delivery that was claimed, given back and claimed again leaves what the others wait for."""
    await put(outbox, *(a_submission(f"{n}@one.test") for n in range(2)))
    for held in await claim(outbox):
        deferred = an_attempt(held, State.DEFERRED, code=450, text="later")
        await outbox.settle(held, deferred, worker="w", now=NOON, next_attempt_at=NOON)
    for _ in range(3):
        (held,) = await claim(outbox, limit=1)
        await outbox.release([held], now=NOON - timedelta(seconds=5))
    assert await outbox.cancel(held.message.id, now=NOON) == Cancel.CANCELLED
    errors = await outbox._redis.hgetall(outbox._key("errors"))
    assert list(errors.values()) == [b"1"]


async def test_claim_knows_the_new_time(outbox):
    """A rescheduled message is claimed with its new time, from which its age counts."""
    mail = a_submission(scheduled_at=LATER)
    await put(outbox, mail)
    moved = LATER + timedelta(days=1)
    await outbox.reschedule(mail.message.id, moved, now=NOON)
    (held,) = await claim(outbox, now=moved)
    assert held.message.scheduled_at == moved


async def test_each_message_has_its_own_content(outbox):
    """Contents go to the queue in one piece; those of messages that are known already are passed over."""
    known, *mails = (a_submission(f"{n}@one.test", content=b"Subject: %d\r\n\r\n" % n + b"x" * n) for n in range(5))
    await put(outbox, known)
    entries = [an_entry(mails[0], known, mails[1]), an_entry(known), an_entry(mails[2], mails[3], mails[2])]
    assert await outbox.append([entry.arguments(NOON) for entry in entries]) == [
        [b"stored", 2],
        [b"stored", 0],
        [b"stored", 2],
    ]
    held = {delivery.message.id: delivery.content for delivery in await claim(outbox)}
    assert held == {mail.message.id: mail.content for mail in (known, *mails)}


async def test_a_delivery_whose_content_is_gone_is_left_to_its_lease(outbox):
    """A queue that loses its memory between a claim and the fetching of its contents must not cause empty mail."""
    gone, there = a_submission("a@one.test"), a_submission("b@one.test")
    await put(outbox, gone, there)
    await outbox._redis.delete(outbox._key("c", gone.message.id))
    assert [c.message.id for c in await claim(outbox)] == [there.message.id]
    assert await outbox._redis.zcard(outbox._key("leases")) == 2


async def test_lane_has_so_many_channels(outbox):
    """No more connections than the setting says work on one lane; leaving makes room."""
    await put(outbox, *(a_submission(f"{n}@one.test") for n in range(9)))
    assert await claim(outbox, channel="w#1", limit=1)
    assert await claim(outbox, channel="w#2", limit=1)
    assert await claim(outbox, channel="w#3", limit=1) == []
    assert await claim(outbox, channel="w#1", limit=1), "a channel that is in may go on"
    await outbox.leave("one.test", "w#2")
    assert await claim(outbox, channel="w#3", limit=1)


async def test_renewed_lease_is_not_reaped(outbox):
    """Renewal extends what is held and names what was lost."""
    await put(outbox, a_submission())
    (held,) = await claim(outbox)
    assert await outbox.renew([held], channel="w#1", now=NOON + timedelta(seconds=15)) == set()
    assert await outbox.reap(now=NOON + timedelta(seconds=30)) == 0
    assert await outbox.reap(now=NOON + timedelta(seconds=36)) == 1
    assert await outbox.renew([held], channel="w#1", now=LATER) == {held.delivery_id}


async def test_scheduled_message_waits_and_can_be_moved(outbox):
    """Scheduled mail is not due before its time, can be moved while it waits, and not afterwards."""
    mail = a_submission(scheduled_at=LATER)
    await put(outbox, mail)
    assert await states(outbox, mail.message.id) == (State.SCHEDULED,)
    assert await outbox.lanes(now=NOON, limit=10) == ([], LATER)
    moved = LATER + timedelta(hours=1)
    assert await outbox.reschedule(mail.message.id, moved, now=NOON) is Reschedule.RESCHEDULED
    assert await claim(outbox, now=LATER) == []
    assert (await outbox.find(mail.message.id)).message.scheduled_at == moved
    assert await claim(outbox, now=moved)
    assert await outbox.reschedule(mail.message.id, LATER, now=moved) is Reschedule.NOT_SCHEDULED
    assert await outbox.reschedule("nothing", LATER, now=moved) is Reschedule.UNKNOWN


async def test_cancel_wins_or_the_worker_does(outbox):
    """Cancelling works while all of the message waits, and is refused while it is sent and after it ended."""
    waiting, sending = a_submission("a@one.test", "b@two.test"), a_submission("c@three.test")
    await put(outbox, waiting, sending)
    assert await outbox.cancel(waiting.message.id, now=NOON) is Cancel.CANCELLED
    assert await outbox.cancel(waiting.message.id, now=NOON) is Cancel.CANCELLED
    assert await states(outbox, waiting.message.id) == (State.CANCELLED, State.CANCELLED)
    assert await claim(outbox) == []
    (held,) = await claim(outbox, "three.test")
    assert await outbox.cancel(sending.message.id, now=NOON) is Cancel.SENDING
    await outbox.settle(held, an_attempt(held), worker="w", now=NOON, next_attempt_at=None)
    assert await outbox.cancel(sending.message.id, now=NOON) is Cancel.ENDED
    assert await outbox.cancel("nothing", now=NOON) is Cancel.UNKNOWN


async def test_partly_delivered_message_is_not_cancelled(outbox):
    """Once one recipient has it, the rest cannot be cancelled."""
    mail = a_submission("a@one.test", "b@one.test")
    await put(outbox, mail)
    (held,) = await claim(outbox)
    outcomes = (Outcome(0, State.DELIVERED, 250), Outcome(1, State.DEFERRED, 450))
    await outbox.settle(held, Attempt(NOON, "mx", outcomes), worker="w", now=NOON, next_attempt_at=LATER)
    assert await outbox.cancel(mail.message.id, now=NOON) is Cancel.ENDED


async def test_newest_lists_by_creation(outbox):
    """The index pages through what the outbox knows, newest first."""
    mails = [a_submission(now=NOON + timedelta(seconds=n)) for n in range(4)]
    await put(outbox, *mails)
    ids = [view.message.id for view in await outbox.newest(limit=3)]
    assert ids == [mails[3].message.id, mails[2].message.id, mails[1].message.id]


async def test_backlog_counts_what_waits_and_why(outbox, redis, bare_settings):
    """The backlog tells depth, states, lanes, errors and ages; and nothing is left when all has ended."""
    await put(outbox, *(a_submission(f"{n}@one.test") for n in range(3)), a_submission("x@two.test"))
    (first,) = await claim(outbox, limit=1)
    error = {"code": 450, "status": "4.2.1", "text": "greylisted"}
    await outbox.settle(first, an_attempt(first, State.DEFERRED, **error), worker="w", now=NOON, next_attempt_at=LATER)
    await claim(outbox, "two.test")
    now = NOON + timedelta(seconds=10)
    seen = await backlog(redis, bare_settings, now=now)
    assert (seen.depth, seen.in_flight) == (4, 1)
    assert seen.states == {"queued": 2, "deferred": 1, "sending": 1}
    assert seen.errors == {"450 4.2.1 greylisted": 1}
    assert seen.oldest_due_age == 10
    assert seen.in_per_second > 0
    (lane,) = seen.lanes
    assert (lane.lane, lane.waiting, lane.due) == ("one.test", 3, 2)
    assert seen.recorder.behind == seen.recorder.newest == 5

    for held in await claim(outbox, now=LATER):
        await outbox.settle(held, an_attempt(held), worker="w", now=LATER, next_attempt_at=None)
    ended = await backlog(redis, bare_settings, now=LATER)
    assert ended.errors == {}
    assert ended.states == {"delivered": 3, "sending": 1}


async def test_every_move_is_an_event_with_the_next_number(outbox, redis, bare_settings):
    """Events are numbered from 1 without a hole, and tell what happened in order."""
    mail = a_submission()
    await put(outbox, mail)
    (held,) = await claim(outbox)
    await outbox.settle(held, an_attempt(held, State.DEFERRED), worker="w", now=NOON, next_attempt_at=LATER)
    await outbox.cancel(mail.message.id, now=NOON)
    stream = await redis.xrange(f"{{{bare_settings.queue_prefix}}}:events")
    assert [number for number, _ in stream] == [b"1-0", b"2-0", b"3-0"]
    kinds = [entry[b"e"].split(b'"')[3] for _, entry in stream]
    assert kinds == [b"accepted", b"attempted", b"cancelled"]
