"""Open-loop load: each mail leaves at its time, whatever became of those before, or stalls would hide."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightmail.demo.ledger import Ledger, Receipt


@dataclass(frozen=True, slots=True)
class Load:
    """How many mails at how many a second."""

    mails: int
    rate: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.mails / self.rate


async def send_all(load: Load, ways: Sequence[Callable[[int], Awaitable[None]]]) -> None:
    """Send them in turn by each way, and wait for the last answer."""
    began = time.monotonic()
    sending: list[asyncio.Future[None]] = []
    for number in range(load.mails):
        await asyncio.sleep(max(0.0, began + number / load.rate - time.monotonic()))
        sending.append(asyncio.ensure_future(ways[number % len(ways)](number)))
    await asyncio.gather(*sending)


class LedgerOnDisk(Ledger):
    """A ledger that would survive a power cut of its own machine: appended and synced after each acknowledgement."""

    def __init__(self, run: str, path: Path) -> None:
        super().__init__(run)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def took(self, receipt: Receipt) -> None:
        """Write it down, then count it."""
        os.write(self._file, f"{receipt.number} {receipt.via} {receipt.id or '-'} {receipt.accepted_at:.6f}\n".encode())
        os.fdatasync(self._file)
        super().took(receipt)

    def close(self) -> None:
        """Nothing comes any more."""
        os.close(self._file)
