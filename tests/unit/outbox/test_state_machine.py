"""The outbox against a model: whatever order things happen in, and whoever dies in between, nothing is lost or doubled.

A crash is a worker that forgets its claims, or an accept that is repeated because its answer was lost. A queue that
forgets everything is rebuilt from the journals that accepting and delivering leave behind.
"""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import fakeredis
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from outbox.journal import Journal
from outbox.message import Attempt, Outcome
from outbox.queue import Cancel, Outbox
from outbox.rebuild import Rebuild
from outbox.receipt import Receipt
from outbox.states import ENDED, WAITING, State
from outbox.suppression import SuppressionList
from runtime.clock import to_ms
from runtime.settings import Settings
from tests.fixtures.mail import NOON, a_submission, an_entry

SETTINGS = Settings(queue_prefix="model", lane_connections=1000, max_releases=3)
LANES = ("one.test", "two.test")
VERDICTS = st.sampled_from([State.DELIVERED, State.FAILED, State.DEFERRED, State.SUPPRESSED])


class OutboxMachine(RuleBasedStateMachine):
    """The model is one state per recipient; after every step the outbox must agree with it."""

    mails = Bundle("mails")
    claims = Bundle("claims")

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory()
        self.settings = SETTINGS.model_copy(update={"data_dir": Path(self.folder.name)})
        self.server = fakeredis.FakeServer()
        self.redis = fakeredis.FakeAsyncRedis(server=self.server)
        self.outbox = Outbox(self.redis, self.settings)
        self.run(self.outbox.look())
        self.journal = Journal(self.settings.data_dir / "journal" / "all-1")
        self.messages = {}  # message id -> the message
        self.tried = set()  # deliveries with a settled attempt
        self.now = NOON
        self.model = {}  # message id -> list of states
        self.tokens = {}  # delivery id -> the newest claim, while it holds the lease
        self.suppression_list = SuppressionList(self.redis, self.settings, journal=self.journal)
        self.suppressed = set()
        self.events = 0
        self.channel = 0

    def run(self, work):
        return self.runner.run(work)

    def teardown(self):
        self.run(self.redis.aclose())
        self.run(self.journal.close())
        self.runner.close()
        self.folder.cleanup()

    @rule(target=mails, domains=st.lists(st.sampled_from(LANES), min_size=1, max_size=4), later=st.booleans())
    def accept(self, domains, later):
        scheduled_at = self.now + timedelta(minutes=1) if later else None
        mail = a_submission(*(f"{n}@{d}" for n, d in enumerate(domains)), now=self.now, scheduled_at=scheduled_at)
        (reply,) = self.run(self.outbox.append([an_entry(mail).arguments(self.now)]))
        assert reply == [b"stored", 1]
        self.journal.write(*an_entry(mail).record(confirmed=True))
        self.messages[mail.message.id] = mail.message
        self.model[mail.message.id] = [State.SCHEDULED if later else State.QUEUED] * len(domains)
        self.events += 1
        return mail

    @rule(mail=mails)
    def accept_again(self, mail):
        """The answer was lost, so the journal puts it again."""
        (reply,) = self.run(self.outbox.append([an_entry(mail).arguments(self.now)]))
        assert reply == [b"stored", 0]

    @rule(local=st.integers(0, 3), domain=st.sampled_from(LANES))
    def suppress(self, local, domain):
        """By a person; what waits is asked for when it is claimed."""
        address = f"{local}@{domain}"
        self.run(self.suppression_list.add(address, now=self.now))
        self.events += address not in self.suppressed
        self.suppressed.add(address)

    @precondition(lambda self: self.suppressed)
    @rule(data=st.data())
    def suppress_no_more(self, data):
        address = data.draw(st.sampled_from(sorted(self.suppressed)))
        self.now += timedelta(seconds=1)
        assert self.run(self.suppression_list.remove(address, now=self.now))
        self.events += 1
        self.suppressed.remove(address)

    @rule(target=claims, lane=st.sampled_from(LANES), limit=st.integers(1, 5))
    def claim(self, lane, limit):
        self.channel += 1
        taken = self.run(self.outbox.claim(lane, channel=f"w#{self.channel}", limit=limit, now=self.now))
        for claim in taken:
            states = self.model[claim.message.id]
            for recipient in claim.recipients:
                assert states[recipient] in WAITING
                states[recipient] = State.SENDING
            addresses = [(r, claim.message.recipients[r].address) for r in claim.recipients]
            assert [r for r, _ in claim.suppressed] == [r for r, address in addresses if address in self.suppressed]
            self.tokens[claim.delivery_id] = claim
            self.journal.write({"kind": "begun", "key": claim.key})
        return multiple(*taken)

    @rule(claim=consumes(claims), verdicts=st.lists(VERDICTS, min_size=4, max_size=4))
    def settle(self, claim, verdicts):
        outcomes = tuple(Outcome(r, verdicts[r]) for r in claim.recipients)
        attempt, again_at = Attempt(self.now, "mx", outcomes), self.now + timedelta(seconds=30)
        if self.tokens.get(claim.delivery_id) == claim:  # a fenced worker has held back before the dot
            self.journal.write(Receipt(claim, attempt, self.now, again_at).header)
            self.tried.add(claim.delivery_id)
        done = self.run(self.outbox.settle(claim, attempt, worker="w", now=self.now, next_attempt_at=again_at))
        assert done is (self.tokens.get(claim.delivery_id) == claim)
        if done:
            del self.tokens[claim.delivery_id]
            self.events += 1
            for outcome in outcomes:
                self.model[claim.message.id][outcome.recipient] = outcome.state

    @rule(claim=consumes(claims))
    def crash(self, claim):
        """The worker dies: the claim is never heard of again."""

    @rule(claim=consumes(claims))
    def release(self, claim):
        self.run(self.outbox.release([claim], now=self.now))
        if self.tokens.get(claim.delivery_id) == claim:
            self._back(claim, State.QUEUED)

    @rule(claim=consumes(claims))
    def hold(self, claim):
        """Its content is lost."""
        held = self.run(self.outbox.hold(claim, reason="content_lost", now=self.now))
        assert held == (self.tokens.get(claim.delivery_id) == claim)
        if held:
            self._back(claim, State.HELD)

    @rule(seconds=st.sampled_from([1, 25, 70]))
    def time_passes_and_reap(self, seconds):
        self.now += timedelta(seconds=seconds)
        self.run(self.outbox.reap(now=self.now))
        for claim in list(self.tokens.values()):
            view = self.run(self.outbox.find(claim.message.id))
            state = view.states[claim.recipients[0]]
            if state is not State.SENDING:
                assert state in {State.QUEUED, State.HELD}
                self._back(claim, state)

    @rule(target=claims, lane=st.sampled_from(LANES))
    def stall_and_be_replaced(self, lane):
        """Workers stand still until their leases are gone and others hold the work; then they wake up."""
        self.time_passes_and_reap(25)
        return self.claim(lane, 50)

    @rule(data=st.data())
    def restart(self, data):
        """The worker died and came back: it says what it had begun, and all its claims are taken back."""
        begun = {d for d in self.tokens if data.draw(st.booleans())}
        assert self.run(self.outbox.rescue("w", begun=begun, now=self.now)) == len(self.tokens)
        for delivery_id, claim in list(self.tokens.items()):
            state = self.run(self.outbox.find(claim.message.id)).states[claim.recipients[0]]
            assert state is State.QUEUED or (state is State.HELD and delivery_id in begun)
            self._back(claim, state)

    @rule(mail=mails)
    def cancel(self, mail):
        states = self.model[mail.message.id]
        answer = self.run(self.outbox.cancel(mail.message.id, now=self.now))
        if State.SENDING in states:
            assert answer in {Cancel.SENDING, Cancel.ENDED}
        elif all(state is State.CANCELLED for state in states):
            assert answer is Cancel.CANCELLED
        elif ENDED & set(states):
            assert answer is Cancel.ENDED
        else:
            assert answer is Cancel.CANCELLED
            self.model[mail.message.id] = [State.CANCELLED] * len(states)
            self.events += 1
            self.journal.write({"kind": "cancelled", "id": mail.message.id, "at": to_ms(self.now)})

    @precondition(lambda self: self.messages)
    @rule()
    def lose_the_queue_and_rebuild(self):
        """FLUSHALL, and then everything is where it was; what was being sent, or was held, waits again."""
        self.run(self.redis.flushall())
        assert not self.run(self.outbox.look())
        self.now += timedelta(seconds=1)
        with fakeredis.FakeRedis(server=self.server) as blocking:
            assert Rebuild(blocking, self.settings, now=self.now).run(patience=0.0).needed
            assert not Rebuild(blocking, self.settings, now=self.now).run().needed
        self.tokens.clear()
        self.events = int(self.run(self.redis.get("{model}:seq")))
        for message_id, message in self.messages.items():
            for delivery in message.deliveries():
                for recipient in delivery.recipients:
                    if self.model[message_id][recipient] not in ENDED:
                        self.model[message_id][recipient] = self._waits(message, delivery)

    def _waits(self, message, delivery):
        if f"{message.id}/{delivery.index}" in self.tried:
            return State.DEFERRED
        later = message.scheduled_at is not None and message.scheduled_at > self.now
        return State.SCHEDULED if later else State.QUEUED

    def _back(self, claim, state):
        del self.tokens[claim.delivery_id]
        self.events += 1
        for recipient in claim.recipients:
            self.model[claim.message.id][recipient] = state

    @invariant()
    def every_recipient_is_where_the_model_says(self):
        for message_id, states in self.model.items():
            assert list(self.run(self.outbox.find(message_id)).states) == states

    @invariant()
    def sums_hold(self):
        """Accepted = waiting + sending + held + ended, by count and by structure."""
        counted = {k.decode(): int(v) for k, v in self.run(self.redis.hgetall("{model}:states")).items() if int(v)}
        assert counted == dict(Counter(str(s) for states in self.model.values() for s in states))
        assert self.run(self.redis.zcard("{model}:leases")) == len(self.tokens)
        assert int(self.run(self.redis.get("{model}:seq")) or 0) == self.events
        ended = {i for i, states in self.model.items() if set(states) <= ENDED}
        assert {i.decode() for i in self.run(self.redis.zrange("{model}:ended", 0, -1))} == ended

    @invariant()
    def index_names_each_lanes_first_due_time(self):
        lanes = dict(self.run(self.redis.zrange("{model}:lanes", 0, -1, withscores=True)))
        for lane in LANES:
            head = self.run(self.redis.zrange(f"{{model}}:lane:{lane}", 0, 0, withscores=True))
            assert lanes.get(lane.encode()) == (head[0][1] if head else None)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = hypothesis_settings(max_examples=40, stateful_step_count=30, deadline=None)
