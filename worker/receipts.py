"""Receipts: what the next hop answered, in the journal before the queue learns of it.

If this process dies between the next hop's 250 and the settle, its next life settles from the receipt, so the message
is not sent twice. That an attempt began is written too: what a dead worker held and had not begun cannot be a
duplicate. A segment of the journal is removed when all its receipts are settled and the archive holds their events:
until then a queue that lost its memory is filled again from here (outbox/rebuild.py).
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from outbox.journal import Journal
from outbox.message import Claim
from outbox.receipt import Header, Receipt
from runtime.logs import get

__all__ = ["Receipt", "Receipts"]

log = get(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux


class Receipts:
    """The receipts of one worker's journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._unsettled: dict[str, Path] = {}  # receipt -> its segment
        self._marks: list[str] = []  # settled, and not yet marked so
        self._begun: dict[str, Path] = {}  # attempts under way -> their segment
        self._spent: dict[Path, int] = {}  # segments done with -> the event number behind all their receipts

    def __len__(self) -> int:
        return len(self._unsettled)

    def write(self, receipt: Receipt, *, begins: Claim | None = None) -> None:
        """Put a receipt where it survives our death, at once; a power cut only after `sync`. Raises OSError.

        `begins` is the attempt that begins as this one ends: the same record says so.
        """
        if begins:
            receipt.header["begins"] = begins.key
        segment = self._unsettled[receipt.claim.key] = self._journal.write(receipt.header).segment
        if begins:
            self._begun[begins.key] = segment
        self.forget(receipt.claim)

    def begin(self, claim: Claim) -> None:
        """An attempt begins. Survives our death; after a power cut all attempts count as begun. Raises OSError."""
        if claim.key not in self._begun:
            self._begun[claim.key] = self._journal.write({"kind": "begun", "key": claim.key}).segment

    def forget(self, claim: Claim) -> None:
        """The attempt is over, or nothing came of it."""
        self._begun.pop(claim.key, None)

    async def sync(self) -> None:
        """Make everything written durable, with a record that marks what is settled. Raises OSError."""
        marks, self._marks = self._marks, []
        await self._journal.append({"kind": "settled", "receipts": marks})

    def settled(self, receipt: Receipt) -> None:
        """The queue knows: mark it with the next `sync` or `mark`."""
        key = receipt.claim.key
        if self._unsettled.pop(key, None):
            self._marks.append(key)

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
            receipt = Receipt.of(header)
            begun.pop(receipt.key, None)
            if begins := header.get("begins"):
                begun[begins] = segment
            left[receipt.key] = receipt
            self._unsettled[receipt.key] = segment
        elif header["kind"] == "settled":
            for key in header["receipts"]:
                left.pop(key, None)
                self._unsettled.pop(key, None)

    async def prune(self, *, newest: int, archived: int) -> int:
        """Remove the closed segments without unsettled receipts whose events are archived; how many there were.

        `newest` and `archived` are event numbers: what is settled now has an event up to `newest`.
        """
        needed = {*self._unsettled.values(), *self._begun.values()}
        spent = [segment for segment in self._journal.closed_segments if segment not in needed]
        self._spent = {segment: self._spent.get(segment, newest) for segment in spent}
        gone = [segment for segment, number in self._spent.items() if number <= archived]
        if gone:
            await asyncio.to_thread(_remove, gone)
            log.info("receipts.pruned", segments=len(gone))
        return len(gone)


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
