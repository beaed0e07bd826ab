"""The drills' own checker: it must see what it is there to see."""

import pytest

from faults.checker import Kill, check, resumes
from faults.figures import Asked, at_most, figures_of, met
from faults.phases import Phase, Span, Times
from faults.rows import Rows
from faults.sink import Arrival
from nightmail.demo.ledger import Ledger, Receipt

BODY = b"Subject: x\r\n\r\nThis is mail %d.\r\n"
SPANS = [Span(Phase.BASELINE, 0, 5), Span(Phase.FAULT, 5, 10)]


def a_ledger(count: int = 10) -> Ledger:
    """One mail a second by SMTP, each taken after 10 ms."""
    ledger = Ledger("run")
    for n in range(count):
        ledger.took(Receipt(n, "SMTP", "", accepted_at=n + 0.01, begun_at=float(n)))
    return ledger


def arrival(number: int, *, after: float = 0.05, content: bytes | None = None) -> Arrival:
    return Arrival(number, number + after, f"<{number}@x>", content or BODY % number)


def account(arrived, *, ledger=None, wrong=0, flagged=(), kills=()):
    return check(ledger or a_ledger(), arrived, Rows(wrong, frozenset(flagged)), spans=SPANS, kills=kills)


def missed(account, asked=None):
    """The names of figures that were not met."""
    return {figure.figure for figure in figures_of(account, asked or Asked()) if not figure.met}


def test_health_meets_every_figure():
    """All arrived once, as sent, in time."""
    good = account([arrival(n) for n in range(10)])
    asked = Asked(accept_ratio=1.2, delay_excess=0.1, accept_p99=0.06, longest_delay=1)
    assert met(figures_of(good, asked))


@pytest.mark.parametrize(
    ("numbers", "changed", "figures"),
    [
        (range(9), {}, {"lost"}),
        ([*range(10), 3], {"flagged": [3]}, {"duplicated"}),
        ([*range(10), 3], {}, {"duplicated", "duplicated and not flagged"}),
        (range(11), {}, {"never accepted"}),
        (range(10), {"wrong": 1}, {"wrong rows"}),
    ],
)
def test_each_broken_promise_is_seen(numbers, changed, figures):
    """Lost, doubled with and without a flag, never accepted, wrong in the history."""
    assert missed(account([arrival(n) for n in numbers], **changed)) == figures


def test_a_refusal_and_an_altered_body_are_seen():
    """One octet is enough."""
    ledger = a_ledger()
    ledger.refused(10, "503")
    arrived = [arrival(n, content=BODY % 99 if n == 4 else None) for n in range(10)]
    assert missed(account(arrived, ledger=ledger)) == {"refused", "altered"}


def test_a_slow_fault_is_held_against_the_health_of_the_same_run():
    """Only the mails that began in the fault count for it."""
    slow = account([arrival(n, after=0.05 if n < 5 else 0.3) for n in range(10)])
    assert missed(slow, Asked(delay_excess=0.1)) == {"delay p99 in the fault"}
    assert missed(slow, Asked(delay_excess=0.3)) == set()


def test_duplicates_are_allowed_by_the_kill():
    """Twenty kills may double one mail, if it is flagged."""
    kills = [Kill("worker-1", n, n + 0.5) for n in range(20)]
    doubled = account([arrival(n) for n in (*range(10), 3)], flagged=[3], kills=kills)
    assert missed(doubled, Asked(duplicates_per_kill=0.05)) == set()
    assert missed(doubled, Asked(duplicates_per_kill=0.04)) == {"duplicated"}


def test_what_a_fenced_worker_sends_is_seen():
    """Its copy arrives after it was continued."""
    stopped = [Kill("worker-1", 2, 8)]
    arrived = [*(arrival(n) for n in range(10)), arrival(3, after=6)]
    asked = Asked(duplicates_per_kill=1, fenced=True)
    assert missed(account(arrived, flagged=[3], kills=stopped), asked) == {"sent in spite of the fence"}


def test_a_resume_ends_with_the_first_delivery_of_the_next_life():
    """What the old life sent last does not count."""
    arrived = [arrival(n) for n in range(10)]
    assert resumes([Kill("worker-1", 2.9, 3.5), Kill("api", 5, 6)], arrived) == [pytest.approx(1.15)]


def test_ranks():
    """The nearest rank: of a hundred values p99 is the last but one."""
    assert Times.of(range(1, 101)) == Times(100, 50, 99, 100)
    assert Times.of([]) == Times()
    assert at_most("x", 0.06, 0.0601).met is False
