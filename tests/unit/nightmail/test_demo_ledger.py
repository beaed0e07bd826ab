import pytest

from nightmail.demo.ledger import Ledger, Receipt, compare


def arrived(ledger: Ledger, number: int, *, at: float = 11.0, message_id: str = "") -> dict:
    return {
        "subject": ledger.subject(number),
        "message_id": message_id or f"<id{number}@x>",
        "received_at": at * 1000,
    }


def recorded(ledger: Ledger, number: int, last_event: str = "delivered") -> dict:
    return {"subject": ledger.subject(number), "last_event": last_event}


@pytest.fixture
def ledger():
    """Two mails accepted at second 10."""
    return Ledger("run", {n: Receipt(n, "API", f"id{n}", 10.0) for n in (1, 2)})


def test_all_well(ledger):
    """Everything accepted arrived once and is recorded: the promise held."""
    verdict = compare(ledger, [arrived(ledger, 1), arrived(ledger, 2, at=12.5)], [recorded(ledger, n) for n in (1, 2)])
    assert verdict.good
    assert verdict.longest_delay == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("mailbox", "history", "wrong"),
    [
        ([1], [1, 2], {"lost": [2]}),
        ([1, 2, 2], [1, 2], {"duplicated": 1}),
        ([1, 2, 3], [1, 2], {"phantoms": 1}),
        ([1, 2], [1], {"unrecorded": [2]}),
    ],
)
def test_each_way_to_break_the_promise_is_seen(ledger, mailbox, history, wrong):
    """Lost, duplicated, never accepted, not recorded."""
    verdict = compare(ledger, [arrived(ledger, n) for n in mailbox], [recorded(ledger, n) for n in history])
    assert not verdict.good
    assert {name: getattr(verdict, name) for name in wrong} == wrong


def test_a_refusal_breaks_the_promise(ledger):
    """So does another Message-ID than the id we were told."""
    ledger.refusals[3] = "503"
    verdict = compare(ledger, [arrived(ledger, 1), arrived(ledger, 2, message_id="<other@x>")], [])
    assert (verdict.refused, verdict.misnamed, verdict.good) == (1, 1, False)
