"""Leases, receipts, verdicts over time, and the simulator: what decides whether mail is sent once."""

from datetime import timedelta
from typing import ClassVar

import pytest

from outbox.facts import under_way
from outbox.journal import Journal
from outbox.message import Attempt, Claim, Outcome
from outbox.states import State
from runtime.settings import Settings
from tests.fixtures.mail import NOON, a_message, an_attempt
from worker.conclude import begun_at, conclude
from worker.finisher import GROUP, Finisher
from worker.leases import MARGIN, Leases
from worker.receipts import Receipt, Receipts
from worker.simulator import simulate

SETTINGS = Settings()


def a_claim(*addresses, token=1, attempts=0, **fields):
    message = a_message(*addresses, **fields)
    recipients = tuple(range(len(message.recipients)))
    return Claim(message, b"x\r\n", 0, "one.test", recipients, attempts, token, False)


def deferred(claim):
    return an_attempt(claim, State.DEFERRED, code=450, status="4.2.0", text="later")


def test_a_lease_is_believed_for_less_time_than_it_has():
    """We stop before the queue gives the delivery to somebody else, counting from before we asked."""
    now = [100.0]
    leases, claim = Leases(timedelta(seconds=20), clock=lambda: now[0]), a_claim()
    leases.take([claim], asked_at=100.0)
    now[0] = 100 + 20 * (1 - MARGIN) - 0.01
    assert leases.sure(claim)
    now[0] += 0.02
    assert not leases.sure(claim)
    assert leases.holds(claim)
    leases.renewed([claim], set(), asked_at=now[0])
    assert leases.sure(claim)


def test_a_lost_lease_is_gone():
    """What the queue gave to somebody else is no longer in hand; what was settled meanwhile is not taken back."""
    leases, lost, settled, kept = Leases(timedelta(seconds=20), clock=lambda: 0.0), a_claim(), a_claim(), a_claim()
    leases.take([lost, settled, kept], asked_at=0.0)
    leases.drop(settled)
    leases.renewed([lost, settled, kept], {lost.delivery_id}, asked_at=0.0)
    assert leases.claims == [kept]
    assert not leases.sure(lost)


def test_deferred_gets_a_next_attempt():
    """A transient end waits for the schedule; a final one for nothing."""
    claim = a_claim()
    again = conclude(claim, deferred(claim), now=NOON, jitter=0.0, settings=SETTINGS)
    assert again.next_attempt_at == NOON + SETTINGS.retry_first
    assert conclude(claim, an_attempt(claim), now=NOON, jitter=0.0, settings=SETTINGS).next_attempt_at is None


def test_old_mail_fails_and_scheduled_mail_is_not_old():
    """Age counts from when delivery could begin: mail for next week does not expire at its first deferral."""
    late = NOON + timedelta(days=7)
    claim, scheduled = a_claim(), a_claim(scheduled_at=late)
    expired = conclude(claim, deferred(claim), now=late, jitter=0.0, settings=SETTINGS)
    assert [(o.state, o.status) for o in expired.attempt.outcomes] == [(State.FAILED, "4.4.7")]
    assert expired.next_attempt_at is None
    waiting = conclude(scheduled, deferred(scheduled), now=late, jitter=0.0, settings=SETTINGS)
    assert waiting.attempt.outcomes[0].state is State.DEFERRED
    assert begun_at(a_message(scheduled_at=NOON - timedelta(days=1))) == NOON


async def test_receipts_are_found_until_they_are_marked(tmp_path):
    """A receipt without a mark is found by the next life, with all that a settle needs; a marked one is not."""
    open_claim, done_claim = a_claim("a@one.test", "b@one.test", token=7, attempts=3), a_claim()
    outcomes = (Outcome(0, State.DELIVERED, 250, "2.0.0", "ok"), Outcome(1, State.DEFERRED, 450, "4.2.0", "later"))
    attempt = Attempt(
        NOON, "mx", outcomes, "mx[192.0.2.1]:25", "TLSv1.3 X", (("dot", 1.5),), complained=(0,), in_doubt=True
    )
    left = Receipt(open_claim, attempt, NOON, NOON + timedelta(minutes=5))
    done = Receipt(done_claim, an_attempt(done_claim), NOON, None)
    journal = Journal(tmp_path)
    receipts = Receipts(journal)
    receipts.write(left)
    receipts.write(done)
    receipts.settled(done)
    await receipts.sync()
    await journal.close()

    journal = Journal(tmp_path)
    receipts = Receipts(journal)
    (found,), begun = receipts.left_behind()
    assert begun == set()
    assert (found.key, found.attempt, found.next_attempt_at) == (left.key, attempt, left.next_attempt_at)
    assert found.claim.recipients == (0, 1)
    assert (found.claim.token, found.claim.attempts, found.claim.lane) == (7, 3, "one.test")
    assert await receipts.prune(newest=0, archived=0) == 0
    receipts.settled(found)
    receipts.mark()
    assert await receipts.prune(newest=0, archived=0) == 1
    await journal.close()
    journal = Journal(tmp_path)
    assert Receipts(journal).left_behind() == ([], set())
    await journal.close()


async def test_what_was_begun_is_known_until_the_machine_restarts(tmp_path):
    """A next life knows which attempts were under way, unless the machine went down meanwhile."""
    journal = Journal(tmp_path)
    receipts = Receipts(journal)
    under_way, ended, given_up = a_claim(), a_claim(), a_claim()
    receipts.left_behind()
    for claim in (under_way, ended, given_up):
        receipts.begin(claim)
    receipts.write(Receipt(ended, an_attempt(ended), NOON, None))
    await receipts.sync()
    await journal.close()

    journal = Journal(tmp_path)
    assert Receipts(journal).left_behind()[1] == {under_way.delivery_id, given_up.delivery_id}
    (tmp_path / "boot").write_text("another life of this machine")
    assert Receipts(journal).left_behind()[1] is None
    await journal.close()


async def test_a_receipt_says_what_begins_with_it(tmp_path):
    """An attempt that begins as another ends needs no record of its own, and counts like any that was begun."""
    journal = Journal(tmp_path / "journal" / "drain-1")
    receipts = Receipts(journal)
    receipts.left_behind()
    first, second, third = a_claim(), a_claim(), a_claim()
    receipts.begin(first)
    receipts.write(Receipt(first, an_attempt(first), NOON, None), begins=second)
    receipts.begin(second)  # it has
    receipts.write(Receipt(second, an_attempt(second), NOON, None), begins=third)
    assert under_way([tmp_path]) == {third.key}
    await journal.close()

    journal = Journal(journal.folder)
    found, begun = Receipts(journal).left_behind()
    assert [receipt.key for receipt in found] == [first.key, second.key]
    assert begun == {third.delivery_id}
    assert [header["kind"] for _, header, _ in journal.replay()] == ["begun", "receipt", "receipt"]
    await journal.close()


async def test_a_record_that_cannot_be_read_is_kept_for_a_person(tmp_path):
    """A receipt of another version stops nobody from starting, and its segment is not removed."""
    journal = Journal(tmp_path)
    await journal.append({"kind": "receipt", "id": "from the future"})
    await journal.close()
    journal = Journal(tmp_path)
    receipts = Receipts(journal)
    assert receipts.left_behind() == ([], set())
    assert await receipts.prune(newest=0, archived=0) == 0
    await journal.close()


async def test_spent_segments_are_removed_while_working(tmp_path):
    """The journal of receipts does not grow for ever: closed segments without an open receipt go."""
    journal = Journal(tmp_path, segment_bytes=4096)
    receipts = Receipts(journal)
    kept = Receipt(a_claim(), an_attempt(a_claim()), NOON, None)
    receipts.write(kept)
    for _ in range(50):
        claim = a_claim()
        receipt = Receipt(claim, an_attempt(claim), NOON, None)
        receipts.write(receipt)
        receipts.settled(receipt)
        await receipts.sync()
    assert await receipts.prune(newest=0, archived=0) > 2
    assert journal.segments()[0].name == "00000001.log"
    assert len(journal.segments()) == 2
    await journal.close()


@pytest.mark.parametrize(
    ("address", "state", "code"),
    [
        ("delivered@resend.dev", State.DELIVERED, 250),
        ("Delivered+any.label@resend.dev", State.DELIVERED, 250),
        ("complained+x@resend.dev", State.DELIVERED, 250),
        ("bounced+x@resend.dev", State.FAILED, 550),
        ("suppressed@resend.dev", State.SUPPRESSED, 0),
        ("deliveredx@resend.dev", State.FAILED, 550),
        ("somebody@resend.dev", State.FAILED, 550),
    ],
)
def test_the_simulator_does_as_the_address_says(address, state, code):
    """Test addresses end as named, with any label; others bounce."""
    attempt = simulate(a_claim(address), started_at=NOON)
    assert [(o.state, o.code) for o in attempt.outcomes] == [(state, code)]
    assert bool(attempt.complained) is address.startswith("complained")
    assert attempt.route == "simulator"


async def test_all_that_ended_share_a_sync(tmp_path, monkeypatch):
    """Under load many end while others are settled: a sync for each group of them would hold all back."""

    class Queue:
        settled: ClassVar[list[int]] = []

        async def settle_all(self, receipts, *, worker):
            self.settled.append(len(receipts))
            return [True] * len(receipts)

    journal, syncs, done = Journal(tmp_path), [], []
    finisher = Finisher(Queue(), journal, worker="w")
    sync = finisher._receipts.sync

    async def counted():
        syncs.append(len(Queue.settled))
        await sync()

    monkeypatch.setattr(finisher._receipts, "sync", counted)
    for number in range(2 * GROUP + 1):
        claim = a_claim(token=number + 1)
        finisher.finish(Receipt(claim, an_attempt(claim), NOON, None), done.append)
    await finisher.close(5.0)
    assert Queue.settled == [GROUP, GROUP, 1]
    assert syncs == [0]
    assert len(done) == 2 * GROUP + 1
    await journal.close()
