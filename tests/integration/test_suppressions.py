"""The suppression list: who gets onto it, what it holds back, and that it outlives the queue."""

import asyncio
from datetime import timedelta

import pytest

from outbox.archive import Archive
from outbox.journal import Journal
from outbox.message import Attempt, Outcome
from outbox.queue import Cancel
from outbox.states import State
from outbox.stream import EventSource
from outbox.suppression import Origin, SuppressionList, normal
from outbox.suppression_facts import keep_copy
from runtime import clock
from tests.fixtures.machine import HOUR, running
from tests.fixtures.mail import a_submission, an_entry
from tests.fixtures.next_hop import NextHop
from tests.fixtures.waiting import until
from worker.process import delivering


@pytest.fixture
async def machine(settings):
    async with running(settings) as machine:
        yield machine


@pytest.fixture
def listed(machine):
    return SuppressionList(machine.redis, machine.settings)


async def send(machine, hop, *mails, **settings):
    """Let a worker deliver these; each mail's states at the end."""
    placed = machine.settings.model_copy(update={"mailbox_smtp_port": hop.port, **settings})
    journal = Journal(placed.data_dir / "journal" / "drain-9")
    ids = [await machine.accept(*mail) for mail in mails]
    async with delivering(placed, "w", journal, grace=1):
        for message_id in ids:
            await until(lambda: _is_done(machine, message_id))  # noqa: B023  (awaited at once)
    return [await machine.states(message_id) for message_id in ids]


async def _is_done(machine, message_id):
    return not {State.QUEUED, State.SENDING} & set(await machine.states(message_id))


def suppression_events(machine):
    events = [e.fields for e in machine.events() if e.kind == "policy_changed" and e.fields["object"] == "suppression"]
    return [(fields["name"], fields["value"] and fields["value"]["origin"]) for fields in events]


async def test_a_hard_bounce_suppresses_the_address(machine, listed):
    """After 550 5.1.1 at RCPT the address gets no more mail; the others of the same message do, in any case."""
    async with NextHop({"RCPT": lambda line: "550 5.1.1 no such user" if "gone" in line.lower() else "250 ok"}) as hop:
        first = await send(machine, hop, ("ann@one.test", "gone@one.test"))
        assert first == [(State.DELIVERED, State.FAILED)]
        seen = len(hop.lines)
        later = await send(machine, hop, ("GONE@One.Test", "ann@one.test"), ("Gone@one.test",))
        assert later == [(State.SUPPRESSED, State.DELIVERED), (State.SUPPRESSED,)]
        assert not [line for line in hop.lines[seen:] if "gone" in line.lower()]
    (kept,) = await listed.page(limit=10)
    assert (kept.email, kept.origin) == ("gone@one.test", Origin.BOUNCE)
    assert kept.source_id
    assert suppression_events(machine) == [("gone@one.test", "bounce")]


@pytest.mark.parametrize(
    "answers",
    [
        {"RCPT": "550 5.7.1 spam"},
        {"RCPT": "554 5.7.1 client host rejected: your IP address has an invalid name"},
        {"RCPT": "550 5.2.2 mailbox full"},
        {"RCPT": "550 sender address rejected"},
        {"MAIL": "550 5.1.1 unknown user"},
        {"DATA": "550 5.1.1 unknown user"},
        {"dot": "550 5.1.1 unknown user"},
    ],
)
async def test_other_refusals_do_not(machine, listed, answers):
    """Spam, policy, a full mailbox, and whatever speaks of the whole message."""
    async with NextHop(answers) as hop:
        assert await send(machine, hop, ("ann@one.test",)) == [(State.FAILED,)]
    assert await listed.page(limit=10) == []


async def test_an_old_server_in_words_alone(machine, listed):
    """Without an enhanced status code the words decide."""
    async with NextHop({"RCPT": "550 no such user here"}) as hop:
        await send(machine, hop, ("ann@one.test",))
    assert [s.email for s in await listed.page(limit=10)] == ["ann@one.test"]


async def test_infrastructure_does_not(machine, listed):
    """A domain that is not there may come back."""
    claims = await _claimed(machine, "ann@one.test")
    attempt = Attempt(clock.now(), "mx", (Outcome(0, State.FAILED, 0, "5.1.2", "no such domain"),))
    await machine.outbox.settle(claims[0], attempt, worker="w", now=clock.now(), next_attempt_at=None)
    assert await listed.page(limit=10) == []


async def _claimed(machine, address):
    await machine.accept(address)
    lane = normal(address).rpartition("@")[2]
    return await machine.outbox.claim(lane, channel="c", limit=9, now=clock.now())


async def test_the_simulator_with_a_label(machine, listed):
    """A bounce or complaint with a label suppresses that address; the bare addresses always do the same."""
    mails = [("bounced@resend.dev",), ("bounced+1@resend.dev",), ("complained@resend.dev", "complained+1@resend.dev")]
    async with NextHop() as hop:
        await send(machine, hop, *mails)
        again = await send(machine, hop, *mails)
    assert again == [(State.FAILED,), (State.SUPPRESSED,), (State.DELIVERED, State.SUPPRESSED)]
    origins = {s.email: s.origin for s in await listed.page(limit=10)}
    assert origins == {"bounced+1@resend.dev": Origin.BOUNCE, "complained+1@resend.dev": Origin.COMPLAINT}


async def test_what_already_waits_is_held_back_too(machine, listed):
    """Scheduled or queued mail asks the list when it is about to leave, and may be cancelled until then."""
    waits = await machine.accept("ann@one.test", scheduled_at=clock.now() + HOUR)
    await listed.add("ann@one.test", now=clock.now())
    assert await machine.states(waits) == (State.SCHEDULED,)
    assert await machine.outbox.cancel(waits, now=clock.now()) is Cancel.CANCELLED
    queued = await machine.accept("Ann@ONE.test")
    (claim,) = await machine.outbox.claim("one.test", channel="c", limit=9, now=clock.now())
    assert (claim.message.id, claim.suppressed) == (queued, ((0, Origin.MANUAL),))


async def test_mail_taken_while_the_queue_was_away(machine, listed):
    """The journal took it without a question; the list is asked all the same."""
    await listed.add("ann@one.test", now=clock.now())
    mail = a_submission("ann@one.test", now=clock.now())
    place = await machine.acceptor._journal.append(*an_entry(mail).record(confirmed=False))
    machine.acceptor._reinjector.add(place)
    await machine.acceptor._reinjector.caught_up(5)
    (claim,) = await machine.outbox.claim("one.test", channel="c", limit=9, now=clock.now())
    assert claim.suppressed


async def test_adding_twice_and_removing(machine, listed):
    """Adding again gives the first; after a removal mail flows again; both are events."""
    first = await listed.add(" Ann@Bücher.test ", now=clock.now())
    assert first.email == "ann@xn--bcher-kva.test"
    assert await listed.add("ANN@xn--bcher-kva.test", now=clock.now()) == first
    assert await listed.get(first.id) == first
    assert await listed.get("ann@bücher.test") == first
    assert await listed.remove("ann@bücher.test", now=clock.now()) == first
    assert await listed.remove(first.id, now=clock.now()) is None
    assert await listed.get(first.id) is None
    (claim,) = await _claimed(machine, "ann@bücher.test")
    assert not claim.suppressed
    assert suppression_events(machine) == [(first.email, "manual"), (first.email, None)]


@pytest.mark.parametrize(
    ("written", "compared"),
    [("A.B+c@D.Test", "a.b+c@d.test"), ("ÜNÏ@d.test", "ÜnÏ@d.test"), ("x@ÄB.test", "x@xn--b-zfa.test")],
)
def test_addresses_compare_in_one_form(written, compared):
    """ASCII letters in lower case, and domains as A-labels."""
    assert normal(written) == compared


async def test_pages(listed):
    """Newest first, by cursors, in both directions, and by origin."""
    now = clock.now()  # ids of one millisecond have no order
    made = [await listed.add(f"{n}@one.test", now=now + timedelta(milliseconds=n)) for n in range(5)]
    newest = made[::-1]
    assert await listed.page(limit=2) == newest[:2]
    assert await listed.page(limit=2, after=newest[1].id) == newest[2:4]
    assert await listed.page(limit=2, before=newest[3].id) == newest[1:3]
    assert await listed.page(limit=9, origin=Origin.BOUNCE) == []
    assert await listed.page(limit=9, origin=Origin.MANUAL) == newest


async def test_a_rebuild_brings_the_list_back(machine, settings, listed):
    """From the copy beside the archive, the archived events, the journal of manual changes, and untold receipts."""
    old = await listed.add("old@one.test", now=clock.now())
    mind = await listed.add("mind@one.test", now=clock.now())
    assert keep_copy(machine.blocking, settings, now=clock.now())
    assert not keep_copy(machine.blocking, settings, now=clock.now())
    machine.archive()
    (segment,) = Archive.open(settings).segments()
    await machine.accept("x@two.test")
    machine.archive()
    Archive.open(settings).store.delete(segment.name)  # as the retention does
    journal = Journal(settings.data_dir / "journal" / "control-1")
    listed = SuppressionList(machine.redis, settings, journal=journal)
    archived = await listed.add("archived@one.test", now=clock.now())
    await listed.remove(mind.id, now=clock.now())
    machine.archive()
    manual = await listed.add("manual@one.test", now=clock.now())
    bounced = await machine.accept("bounced@three.test")
    receipt = await machine.attempt(bounced, State.FAILED, code=550, status="5.1.1", suppress=True)
    before = await listed.page(limit=10)
    assert [s.email for s in before][1:] == [manual.email, archived.email, old.email]
    await machine.redis.flushdb()
    done = await machine.rebuild(despite_gaps=True)
    after = await listed.page(limit=10)
    assert [(s.email, s.origin, s.source_id) for s in after] == [(s.email, s.origin, s.source_id) for s in before]
    assert after[1:] == before[1:]
    assert receipt.claim.message.id == after[0].source_id
    told = EventSource(machine.blocking, settings).read(done.begins - 1, 99)
    again = [(r.event.fields.get("name"), r.event.fields.get("restored")) for r in told if r.event.fields["id"] == ""]
    assert again == [(None, None), ("manual@one.test", True), ("bounced@three.test", None)]
    assert not await machine.redis.zscore(f"{{{settings.queue_prefix}}}:suppressions", f"{mind.id}:{mind.email}")
    await journal.close()


async def test_concurrent_bounces_make_one_entry(machine, listed):
    """Two messages to one address bounce at once: one entry, one event."""
    claims = [(await _claimed(machine, "ann@one.test"))[0] for _ in range(2)]
    outcome = (Outcome(0, State.FAILED, 550, "5.1.1", "no"),)
    attempt = Attempt(clock.now(), "mx", outcome, suppress=((0, Origin.BOUNCE),))
    settle = machine.outbox.settle
    await asyncio.gather(*(settle(c, attempt, worker="w", now=clock.now(), next_attempt_at=None) for c in claims))
    assert len(await listed.page(limit=9)) == 1
    assert suppression_events(machine) == [("ann@one.test", "bounce")]
