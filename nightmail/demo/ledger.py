"""The demo's account: what was accepted, what arrived, what the history says. Kept by the client, outside the stack."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Receipt:
    """One mail that was taken: its number, our subject, the id (empty for SMTP), and the wall clock in seconds.

    `begun_at` is when it was due to leave: what waited for a connection or was tried again counts from there.
    """

    number: int
    via: str
    id: str
    accepted_at: float
    begun_at: float = 0.0


@dataclass(slots=True)
class Ledger:
    """Grows while the demo sends."""

    run: str
    receipts: dict[int, Receipt] = field(default_factory=dict)
    refusals: dict[int, str] = field(default_factory=dict)

    def took(self, receipt: Receipt) -> None:
        """The mail is the stack's now."""
        self.receipts[receipt.number] = receipt

    def refused(self, number: int, words: str) -> None:
        """The mail was not taken."""
        self.refusals[number] = words

    def subject(self, number: int) -> str:
        """The subject of a mail: what it is known by in mailbox and history."""
        return f"Nightmail demo {self.run} #{number}"

    def number(self, subject: str) -> int:
        """The inverse of `subject`."""
        return int(subject.rpartition("#")[2])


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison. `lost` and `unrecorded` are numbers of mails; delay is seconds from accept to mailbox."""

    accepted: Mapping[str, int]  # by way in
    refused: int
    delivered: int
    lost: Sequence[int]
    duplicated: int
    phantoms: int  # arrived, but never accepted
    misnamed: int  # arrived under another Message-ID than the id we were told
    unrecorded: Sequence[int]
    longest_delay: float

    @property
    def good(self) -> bool:
        """Whether the promise held."""
        wrong = (self.refused, self.lost, self.duplicated, self.phantoms, self.misnamed, self.unrecorded)
        return not any(wrong) and sum(self.accepted.values()) > 0


def compare(ledger: Ledger, mailbox: Iterable[Mapping[str, Any]], history: Iterable[Mapping[str, Any]]) -> Verdict:
    """Hold the receipts against the mailbox (its list of messages) and the history (`GET /emails`)."""
    arrived: dict[int, list[Mapping[str, Any]]] = {}
    for message in mailbox:
        arrived.setdefault(ledger.number(message["subject"]), []).append(message)
    recorded = {ledger.number(email["subject"]) for email in history if email["last_event"] == "delivered"}
    taken = ledger.receipts
    firsts = {number: messages[0] for number, messages in arrived.items() if number in taken}
    return Verdict(
        accepted=Counter(receipt.via for receipt in taken.values()),
        refused=len(ledger.refusals),
        delivered=len(firsts),
        lost=sorted(taken.keys() - arrived.keys()),
        duplicated=sum(len(messages) - 1 for messages in arrived.values()),
        phantoms=len(arrived.keys() - taken.keys() - ledger.refusals.keys()),
        misnamed=sum(taken[number].id not in message["message_id"] for number, message in firsts.items()),
        unrecorded=sorted(taken.keys() - recorded),
        longest_delay=max(
            (message["received_at"] / 1000 - taken[number].accepted_at for number, message in firsts.items()),
            default=0.0,
        ),
    )
