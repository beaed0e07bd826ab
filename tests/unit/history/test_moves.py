from dataclasses import fields
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from history.moves import email_row, message_of, move, note_outcome, outcome_of, recipient_rows
from outbox.message import Message, Outcome, Recipient
from outbox.states import ENDED, State
from tests.fixtures.event_log import START, make_message

NOW = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)

FULL = Message(
    id="019e",
    created_at=NOW,
    via="smtp",
    key_id="key",
    reverse_path="bounces@sender.example",
    recipients=(Recipient("ann@a.example", "to"), Recipient("bob@bücher.example", "bcc")),
    sender="Ünal <u@sender.example>",
    to=("Ann <ann@a.example>",),
    cc=("cid@a.example",),
    bcc=("bob@bücher.example",),
    reply_to=("r@sender.example",),
    subject="Grüße",
    tags=(("a", "1"), ("b", "2")),
    message_id_header="<1@sender.example>",
    scheduled_at=NOW,
    size=12,
    text_derived=True,
    smtputf8=True,
)


def test_a_message_is_rebuilt_exactly_from_its_rows():
    """Every field of a message has a place in the rows, and comes back as it was, but what only delivery needs."""
    empty = [f.name for f in fields(Message) if not getattr(FULL, f.name)]
    assert empty == ["from_domain", "blob"]
    assert message_of(email_row(FULL.to_dict(), 1), recipient_rows(FULL.to_dict(), 1)) == FULL


def test_recipients_start_as_the_outbox_starts_them():
    """A recipient starts as queued, or as scheduled when its message waits for a later time."""
    later = make_message(1, scheduled_at=START.replace(hour=13))
    assert [row["state"] for row in recipient_rows(make_message(1).to_dict(), 1)] == [State.QUEUED]
    assert [row["state"] for row in recipient_rows(later.to_dict(), 1)] == [State.SCHEDULED]


@given(st.lists(st.sampled_from(["a@A.example", "b@a.example", "c@b.example", "d@bücher.example"]), min_size=1))
def test_recipients_name_their_deliveries_as_the_outbox_does(addresses):
    """A recipient's row names the delivery that `Message.deliveries` puts it in."""
    message = make_message(1, to=addresses)
    rows = recipient_rows(message.to_dict(), 1)
    for delivery in message.deliveries():
        assert tuple(row["idx"] for row in rows if row["delivery"] == delivery.index) == delivery.recipients


numbered_states = st.lists(st.sampled_from(list(State)), min_size=1, max_size=6).flatmap(
    lambda states: st.permutations(list(enumerate(states, start=2)))
)


@given(numbered_states)
def test_the_order_and_number_of_moves_does_not_matter(moves):
    """Moves applied in any order, and some of them twice, lead to the same row as in the order of their numbers."""

    def play(sequence):
        row = recipient_rows(make_message(1).to_dict(), 1)[0]
        for number, state in sequence:
            move(row, state, number=number, at=NOW)
        return row

    assert play(moves) == play(sorted(moves)) == play([*moves, *moves])


def test_an_end_is_final():
    """Nothing moves a recipient that has ended, not even a later event."""
    for end in ENDED:
        row = recipient_rows(make_message(1).to_dict(), 1)[0]
        assert move(row, end, number=2, at=NOW)
        for state in State:
            assert not move(row, state, number=3, at=NOW)
        assert row["state"] == end
        assert row["ended_at"] == NOW


def test_the_last_outcome_is_kept():
    """Of several outcomes of one recipient the newest is shown; an older one that is replayed changes nothing."""
    row = recipient_rows(make_message(1).to_dict(), 1)[0]
    assert outcome_of(row) is None
    newest = Outcome(0, State.DELIVERED, 250, "2.0.0", "ok")
    assert note_outcome(row, newest, number=5)
    assert not note_outcome(row, Outcome(0, State.DEFERRED, 451, "4.0.0", "later"), number=4)
    assert outcome_of(row) == newest
