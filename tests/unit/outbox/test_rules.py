"""The pure rules: ids, states, schedule, rate limit, breaker."""

from dataclasses import MISSING, fields
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.ids import Idempotency, derive_ids, new_id, new_ids
from outbox.message import Message, Recipient
from outbox.ratelimit import RateLimiter
from outbox.schedule import next_attempt_at
from outbox.states import ENDED, MOVES, WAITING, LastEvent, State, last_event, may
from runtime.breaker import Breaker
from runtime.settings import Settings
from tests.fixtures.mail import NOON, a_message

SETTINGS = Settings()


def test_new_ids_sort_by_time():
    """Ids minted later sort later, and are UUIDs of version 7."""
    ids = [new_id(NOON + timedelta(milliseconds=n)) for n in range(100)]
    assert ids == sorted(ids)
    assert {UUID(i).version for i in ids} == {7}


def test_new_ids_of_one_moment_sort_by_place():
    """The messages of a batch are listed in their order, though they have one time."""
    ids = new_ids(NOON, 100)
    assert len(set(ids)) == 100
    assert list(ids) == sorted(ids)
    assert ids[0] > new_id(NOON - timedelta(milliseconds=1))
    assert ids[-1] < new_id(NOON + timedelta(milliseconds=1))


@given(st.text(), st.text(), st.integers(0, 99))
def test_derived_ids_depend_on_every_part(scope, key, place):
    """Same secret, scope, key, day and place: same id; anything else: another."""
    used = Idempotency(scope, key, "f")
    ids = derive_ids(b"secret", used, day=1, count=100)
    assert ids == derive_ids(b"secret", Idempotency(scope, key, "other body"), day=1, count=100)
    assert len(set(ids)) == 100
    assert UUID(ids[place]).version == 8
    for other in (
        derive_ids(b"other", used, day=1, count=100),
        derive_ids(b"secret", used, day=2, count=100),
        derive_ids(b"secret", Idempotency(scope + "x", key, "f"), day=1, count=100),
    ):
        assert ids[place] != other[place]


def test_every_state_can_end():
    """From each state that has not ended a legal move leads on, and none leads out of an end."""
    for state in State:
        leaving = [move for move, (leaves, _) in MOVES.items() if state in leaves]
        assert bool(leaving) is (state not in ENDED)


@pytest.mark.parametrize(
    ("move", "old", "new", "legal"),
    [
        ("claim", State.DEFERRED, State.SENDING, True),
        ("settle", State.SENDING, State.DELIVERED, True),
        ("settle", State.QUEUED, State.DELIVERED, False),  # without a lease nothing settles
        ("cancel", State.SENDING, State.CANCELLED, False),  # the worker has won
        ("reap", State.DELIVERED, State.QUEUED, False),  # what ended is never sent again
    ],
)
def test_legal_moves(move, old, new, legal):
    """The table decides."""
    assert may(move, old, new) is legal


@pytest.mark.parametrize(
    ("states", "word"),
    [
        ([State.QUEUED], LastEvent.QUEUED),
        ([State.DELIVERED, State.DELIVERED], LastEvent.DELIVERED),
        ([State.DELIVERED, State.FAILED], LastEvent.BOUNCED),  # one bounce is what the sender must see
        ([State.DELIVERED, State.DEFERRED], LastEvent.DELIVERY_DELAYED),
        ([State.CANCELLED], LastEvent.CANCELED),
        ([State.SCHEDULED], LastEvent.SCHEDULED),
        ([State.SUPPRESSED, State.DELIVERED], LastEvent.SUPPRESSED),
        ([], LastEvent.QUEUED),
    ],
)
def test_last_event_is_the_weightiest_word(states, word):
    """The message shows what its sender most needs to know."""
    assert last_event(states) is word
    assert last_event(states, complained=True) is LastEvent.COMPLAINED


def test_waiting_and_ended_do_not_meet():
    """Held and sending are neither."""
    assert not WAITING & ENDED
    assert set(State) - WAITING - ENDED == {State.SENDING, State.HELD}


def test_delays_double_up_to_the_longest():
    """5 minutes, doubling, at most 4 hours, by the defaults."""
    delays = [
        next_attempt_at(attempts=n, created_at=NOON, now=NOON, jitter=0, settings=SETTINGS) - NOON for n in range(1, 9)
    ]
    assert [d.total_seconds() / 60 for d in delays] == [5, 10, 20, 40, 80, 160, 240, 240]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 4 * 86400))
def test_next_attempt_is_never_after_expiry_nor_in_the_past(attempts, jitter, age):
    """A message gets its last try at the moment it expires, and none later."""
    now = NOON + timedelta(seconds=age)
    at = next_attempt_at(attempts=attempts, created_at=NOON, now=now, jitter=jitter, settings=SETTINGS)
    if now >= NOON + SETTINGS.expire_after:
        assert at is None
    else:
        assert now < at <= max(NOON + SETTINGS.expire_after, now + timedelta(seconds=1))


def test_rate_is_counted_per_key_and_second():
    """A key gets its limit in each second, its own limit if it has one; others are not touched."""
    time = [10.0]
    limiter = RateLimiter(2, clock=lambda: time[0])
    assert [limiter.take("a").allowed for _ in range(3)] == [True, True, False]
    assert limiter.take("b", 1).remaining == 0
    time[0] = 11.0
    assert limiter.take("a").remaining == 1


def test_breaker_lets_one_trial_through_each_pause():
    """Open: one call per pause; its own refusals do not hold it open; a success closes it."""
    time = [0.0]
    breaker = Breaker(timedelta(seconds=1), clock=lambda: time[0])
    assert breaker.allow()
    breaker.failed()
    assert not breaker.allow()
    time[0] = 1.0
    assert [breaker.allow(), breaker.allow()] == [True, False]
    time[0] = 2.0
    assert breaker.allow()
    breaker.succeeded()
    assert [breaker.allow(), breaker.allow()] == [True, True]


def test_message_survives_its_json():
    """Every field comes back from the wire form."""
    message = a_message("a@one.test", "b@zwölf.test", scheduled_at=NOON, tags=(("k", "v"),), bcc=("b@zwölf.test",))
    assert message.to_dict().keys() == Message.__dataclass_fields__.keys()
    assert Message.from_json(message.to_json()) == message


def test_message_of_another_version_is_read():
    """What an older version did not write has its default, and what a newer one adds is left aside."""
    told = a_message("a@one.test").to_dict()
    defaults = {field.name: field.default for field in fields(Message) if field.default is not MISSING}
    for name in defaults:
        del told[name]
    read = Message.from_dict({**told, "colour": "blue"})
    assert read.recipients == (Recipient("a@one.test", "to"),)
    assert {name: getattr(read, name) for name in defaults} == defaults
    del told["sender"]
    with pytest.raises(KeyError):
        Message.from_dict(told)


def test_lane_is_the_a_label_of_the_domain():
    """Case and script of a domain do not make another lane."""
    assert Recipient("x@ZWÖLF.test", "to").domain == Recipient("x@xn--zwlf-6qa.test", "to").domain
