"""Receipts: what the next hop answered, in the journal before the queue learns of it.

If this process dies between the next hop's 250 and the settle, its next life settles from the receipt, so the message
is not sent twice. That an attempt began is written too: what a dead worker held and had not begun cannot be a
duplicate. A segment of the journal is removed when all its receipts are settled.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from outbox.journal import Journal
from outbox.message import Attempt, Claim, Message, Outcome
from outbox.states import State
from runtime.clock import from_ms, to_ms
from runtime.logs import get

log = get(__name__)

Header = dict[str, Any]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux


@dataclass(frozen=True, slots=True)
class Receipt:
    """An attempt that has ended, ready to be settled."""

    claim: Claim
    attempt: Attempt
    ended_at: datetime
    next_attempt_at: datetime | None

    @property
    def key(self) -> str:
        """The claim it belongs to."""
        return key_of(self.claim)


def key_of(claim: Claim) -> str:
    """A delivery under one fencing token."""
    return f"{claim.delivery_id}#{claim.token}"


class Receipts:
    """The receipts of one worker's journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._unsettled: dict[str, Path] = {}  # receipt -> its segment
        self._marks: list[str] = []  # settled, and not yet marked so
        self._begun: dict[str, Path] = {}  # attempts under way -> their segment

    def __len__(self) -> int:
        return len(self._unsettled)

    def write(self, receipt: Receipt) -> None:
        """Put a receipt where it survives our death, at once; a power cut only after `sync`. Raises OSError."""
        self._unsettled[receipt.key] = self._journal.write(_header(receipt)).segment
        self.forget(receipt.claim)

    def begin(self, claim: Claim) -> None:
        """An attempt begins. Survives our death; after a power cut all attempts count as begun. Raises OSError."""
        key = key_of(claim)
        self._begun[key] = self._journal.write({"kind": "begun", "key": key}).segment

    def forget(self, claim: Claim) -> None:
        """The attempt is over, or nothing came of it."""
        self._begun.pop(key_of(claim), None)

    async def sync(self) -> None:
        """Make everything written durable, with a record that marks what is settled. Raises OSError."""
        marks, self._marks = self._marks, []
        await self._journal.append({"kind": "settled", "receipts": marks})

    def settled(self, receipts: Sequence[Receipt]) -> None:
        """The queue knows: mark them with the next `sync` or `mark`."""
        self._marks += [receipt.key for receipt in receipts if self._unsettled.pop(receipt.key, None)]

    def mark(self) -> None:
        """Write marks that wait for no other record. A lost mark does no harm: to settle again changes nothing."""
        marks, self._marks = self._marks, []
        if marks:
            self._journal.write({"kind": "settled", "receipts": marks})

    def left_behind(self) -> tuple[list[Receipt], set[str] | None]:
        """Of an earlier life: receipts that bear no mark, oldest first, and the delivery ids it had begun to send.

        None in place of the latter: the machine was restarted since, so nobody knows. Reads the whole journal: call it
        in a thread.
        """
        left: dict[str, Receipt] = {}
        begun: dict[str, Path] = {}
        for place, header, _ in self._journal.replay():
            try:
                self._read(header, place.segment, left, begun)
            except (KeyError, TypeError, ValueError) as error:  # of another version: kept, for a person
                log.error("receipts.unreadable", segment=str(place.segment), offset=place.offset, error=repr(error))
                self._unsettled[f"{place.segment}@{place.offset}"] = place.segment
        known = same_boot(self._journal.folder / "boot")
        return list(left.values()), {key.rpartition("#")[0] for key in begun} if known else None

    def _read(self, header: Header, segment: Path, left: dict[str, Receipt], begun: dict[str, Path]) -> None:
        if header["kind"] == "begun":
            begun[header["key"]] = segment
        elif header["kind"] == "receipt":
            receipt = _receipt(header)
            begun.pop(receipt.key, None)
            left[receipt.key] = receipt
            self._unsettled[receipt.key] = segment
        elif header["kind"] == "settled":
            for key in header["receipts"]:
                left.pop(key, None)
                self._unsettled.pop(key, None)

    async def prune(self) -> int:
        """Remove the closed segments without unsettled receipts; how many there were."""
        needed = {*self._unsettled.values(), *self._begun.values()}
        spent = [segment for segment in self._journal.closed_segments if segment not in needed]
        if spent:
            await asyncio.to_thread(_remove, spent)
            log.info("receipts.pruned", segments=len(spent))
        return len(spent)


def same_boot(file: Path) -> bool:
    """Whether this machine runs since `file` was last written; notes this boot there. False where none can tell."""
    try:
        boot = _BOOT_ID.read_text()
    except OSError:
        return False
    earlier = file.read_text() if file.exists() else boot
    file.write_text(boot)
    return earlier == boot


def _remove(segments: Sequence[Path]) -> None:
    for segment in segments:
        segment.unlink(missing_ok=True)


def _header(receipt: Receipt) -> Header:
    claim, attempt = receipt.claim, receipt.attempt
    return {
        "kind": "receipt",
        "id": claim.message.id,
        "delivery": claim.index,
        "lane": claim.lane,
        "token": claim.token,
        "attempts": claim.attempts,
        "possible_duplicate": claim.possible_duplicate,
        "created_at": to_ms(claim.message.created_at),
        "started_at": to_ms(attempt.started_at),
        "ended_at": to_ms(receipt.ended_at),
        "next_attempt_at": to_ms(receipt.next_attempt_at) if receipt.next_attempt_at else None,
        "route": attempt.route,
        "peer": attempt.peer,
        "tls": attempt.tls,
        "steps": attempt.steps,
        "complained": attempt.complained,
        "in_doubt": attempt.in_doubt,
        "outcomes": [[o.recipient, o.state, o.code, o.status, o.text] for o in attempt.outcomes],
    }


def _receipt(header: Header) -> Receipt:
    outcomes = tuple(
        Outcome(r, State(state), code, status, text) for r, state, code, status, text in header["outcomes"]
    )
    attempt = Attempt(
        started_at=from_ms(header["started_at"]),
        route=header["route"],
        outcomes=outcomes,
        peer=header["peer"],
        tls=header["tls"],
        steps=tuple((step, ms) for step, ms in header["steps"]),
        complained=header["complained"],
        in_doubt=header.get("in_doubt", False),
    )
    next_attempt_at = from_ms(header["next_attempt_at"]) if header["next_attempt_at"] else None
    return Receipt(_claim(header, outcomes), attempt, from_ms(header["ended_at"]), next_attempt_at)


def _claim(header: Header, outcomes: Sequence[Outcome]) -> Claim:
    """The claim as far as a settle needs it: its ids and token. Addresses and content never enter this journal."""
    message = Message(
        id=header["id"],
        created_at=from_ms(header["created_at"]),
        via="smtp",
        key_id="",
        reverse_path="",
        recipients=(),
        sender="",
    )
    return Claim(
        message=message,
        content=b"",
        index=header["delivery"],
        lane=header["lane"],
        recipients=tuple(o.recipient for o in outcomes),
        attempts=header["attempts"],
        token=header["token"],
        possible_duplicate=header["possible_duplicate"],
    )
