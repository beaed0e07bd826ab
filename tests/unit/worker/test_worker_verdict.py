from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.message import Attempt, Outcome
from outbox.states import State
from worker import errors, verdict
from worker.reply import Reply
from worker.transaction import Transaction

OK = Reply(250, ("2.0.0 ok",))
START = Reply(354, ("go ahead",))
NO_USER = Reply(550, ("5.1.1 no such user",))
GREY = Reply(450, ("4.2.0 greylisted",))
NO_RECIPIENTS = Reply(554, ("5.5.1 no valid recipients",))
FULL = Reply(452, ("4.3.1 disk full",))
SPAM = Reply(554, ("5.7.1 spam",))
LOST = errors.ConnectionLost("closed")

DELIVERED, DEFERRED, FAILED = State.DELIVERED, State.DEFERRED, State.FAILED


@pytest.mark.parametrize(
    ("transaction", "expected"),
    [
        # Everyone taken.
        (Transaction((OK, OK), OK, START, OK), [(DELIVERED, "2.0.0")] * 2),
        # Each recipient by its own reply.
        (Transaction((OK, NO_USER), OK, START, OK), [(DELIVERED, "2.0.0"), (FAILED, "5.1.1")]),
        (Transaction((GREY, OK), OK, START, OK), [(DEFERRED, "4.2.0"), (DELIVERED, "2.0.0")]),
        # The final dot speaks for all that were taken, and for nobody else.
        (Transaction((OK, NO_USER), OK, START, FULL), [(DEFERRED, "4.3.1"), (FAILED, "5.1.1")]),
        (Transaction((OK, GREY), OK, START, SPAM), [(FAILED, "5.7.1"), (DEFERRED, "4.2.0")]),
        # DATA refused after recipients were taken.
        (Transaction((OK, OK), OK, FULL), [(DEFERRED, "4.3.1")] * 2),
        (Transaction((OK, OK), OK, SPAM), [(FAILED, "5.7.1")] * 2),
        # A pipelined DATA that says "no valid recipients" must not fail a greylisted one.
        (Transaction((GREY, GREY), OK, NO_RECIPIENTS), [(DEFERRED, "4.2.0")] * 2),
        # MAIL refused: the 503 of the pipelined RCPTs follows from it.
        (Transaction((Reply(503, ("5.5.1 need MAIL",)),), GREY, Reply(503, ("",))), [(DEFERRED, "4.2.0")]),
        (Transaction((None,), SPAM), [(FAILED, "5.7.1")]),
        # RFC 5321 section 4.5.3.1.10: 552 to RCPT is read as 452.
        (
            Transaction((OK, Reply(552, ("5.5.3 too many",))), OK, START, OK),
            [(DELIVERED, "2.0.0"), (DEFERRED, "4.5.3")],
        ),
        # The connection ends: what was said stands, the rest is transient.
        (Transaction((NO_USER, None), OK, error=LOST), [(FAILED, "5.1.1"), (DEFERRED, "4.4.2")]),
        (Transaction((OK, OK), OK, START, error=LOST, in_doubt=True), [(DEFERRED, "4.4.2")] * 2),
        (Transaction((OK,), OK, START, error=errors.StepTimeout("late")), [(DEFERRED, "4.4.2")]),
        (Transaction((None,), error=errors.Garbled("HTTP")), [(DEFERRED, "4.5.0")]),
        # 421 is transient wherever it comes.
        (Transaction((None,), Reply(421, ("4.3.2 shutting down",)), error=LOST), [(DEFERRED, "4.3.2")]),
        # Found before a word was said.
        (Transaction((None,), error=errors.Smtputf8Missing("")), [(FAILED, "5.6.7")]),
        (Transaction((None,), error=errors.TooLarge("")), [(FAILED, "5.3.4")]),
        # Nothing was said, and nothing went wrong: cannot tell.
        (Transaction((OK,), OK), [(DEFERRED, "4.5.0")]),
    ],
)
def test_each_recipient_is_judged_by_the_reply_about_it(transaction, expected):
    """2yz delivers, 4yz defers, 5yz fails, for each recipient by the reply that was about it."""
    outcomes = verdict.judge(transaction, range(10, 10 + len(transaction.rcpts)))
    assert [(o.state, o.status) for o in outcomes] == expected
    assert [o.recipient for o in outcomes] == list(range(10, 10 + len(expected)))


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (250, "2.1.5 ok", "2.1.5"),
        (550, "5.1.1 no", "5.1.1"),
        (550, "5.1.1", "5.1.1"),
        (550, "no such user", "5.0.0"),  # missing
        (450, "5.1.1 no", "4.0.0"),  # its class is not the reply's
        (550, "4.2.2 full", "5.0.0"),
        (550, "5.1.1.1 an address", "5.0.0"),
        (550, "5.1234.1 x", "5.0.0"),
        (550, "relay 5.7.1", "5.0.0"),  # only at the start
    ],
)
def test_enhanced_status_code(code, text, status):
    """The enhanced status code of a reply is taken when it stands at its start and has the reply's class."""
    assert verdict.enhanced(Reply(code, (text,))) == status


PERMANENT = {errors.NoSuchDomain: "5.1.2", errors.NullMx: "5.1.10", errors.Smtputf8Missing: "5.6.7"} | {
    errors.TooLarge: "5.3.4"
}


@pytest.mark.parametrize(
    "kind", [k for k in vars(errors).values() if isinstance(k, type) and k.__module__ == "worker.errors"]
)
def test_only_definite_answers_are_permanent(kind):
    """Any error of ours or the network's is transient, whatever the server said; four definite answers are not."""
    outcome = verdict.from_error(3, kind("words", Reply(554, ("5.7.1 go away",))))
    assert (outcome.state, outcome.status[0]) == ((FAILED, "5") if kind in PERMANENT else (DEFERRED, "4"))
    assert outcome.status == PERMANENT.get(kind, outcome.status)
    assert outcome.recipient == 3


replies = st.none() | st.builds(Reply, st.integers(200, 599), st.tuples(st.text(max_size=10)))
faults = st.none() | st.sampled_from([LOST, errors.StepTimeout("late"), errors.Garbled("x")])


@given(st.lists(replies, min_size=1, max_size=5), replies, replies, replies, faults)
def test_any_transaction_has_one_outcome_per_recipient(rcpts, mail, data, dot, error):
    """Delivered only by a 2yz to the final dot, failed only by a 5yz of the server: for any replies whatever."""
    outcomes = verdict.judge(Transaction(tuple(rcpts), mail, data, dot, error), range(len(rcpts)))
    assert len(outcomes) == len(rcpts)
    for outcome, rcpt in zip(outcomes, rcpts, strict=True):
        if outcome.state is DELIVERED:
            assert dot is not None
            assert dot.positive
            assert rcpt is not None
            assert rcpt.positive
        elif outcome.state is FAILED:
            assert any(r is not None and r.permanent and r.code == outcome.code for r in (mail, rcpt, data, dot))
        else:
            assert outcome.state is DEFERRED
        assert (
            outcome.status[0] == {DELIVERED: "2", FAILED: "5", DEFERRED: "4"}[outcome.state] or outcome.code // 100 == 3
        )


def test_expiry_fails_what_would_be_deferred():
    """The last attempt turns deferred recipients into failed ones (4.4.7), with the server's last words."""
    outcomes = (Outcome(0, DELIVERED, 250, "2.0.0", "ok"), Outcome(1, DEFERRED, 450, "4.2.0", "greylisted"))
    first, second = verdict.expire(Attempt(datetime.now(UTC), "mx", outcomes)).outcomes
    assert first == outcomes[0]
    assert (second.state, second.code, second.status) == (FAILED, 450, "4.4.7")
    assert "greylisted" in second.text
