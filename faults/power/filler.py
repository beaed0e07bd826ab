"""`python -m faults.power.filler LEDGER [STREAMS] [BATCH]`: accepts mail as fast as it can, until it is killed.

The acceptor is the one of every way in; only HTTP and SMTP are left out, so that many cuts fit into minutes. Each
acknowledged id is appended to the ledger and synced, outside the disk whose power is cut.
"""

import asyncio
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from nightmail.roles.accepting import accepting
from nightmail.serving import run
from outbox.accept import Acceptor
from outbox.entry import Submission
from outbox.ids import new_id
from outbox.message import Message, Recipient
from runtime import clock, logs
from runtime.settings import Settings

_TEXT = "Some words that are long enough to be taken for a short mail.\r\n" * 6
_ROLE = "api"  # a stack that takes the disk over finds the journal under this name
_RECIPIENT = "reader@example.org"
_SENDER = "power@nightmail.example"


def submission() -> Submission:
    """One mail."""
    now = clock.now()
    id_ = new_id(now)
    message_id = f"<{id_}@nightmail.example>"
    content = (
        f"From: {_SENDER}\r\nTo: {_RECIPIENT}\r\nSubject: {id_}\r\nMessage-ID: {message_id}\r\n\r\n{_TEXT}".encode()
    )
    message = Message(
        id=id_,
        created_at=now,
        via="http",
        key_id="power",
        reverse_path=_SENDER,
        recipients=(Recipient(_RECIPIENT, "to"),),
        sender=_SENDER,
        to=(_RECIPIENT,),
        subject=id_,
        message_id_header=message_id,
        size=len(content),
    )
    return Submission(message, content)


class _Ledger:
    """Appended by one writer; a line is complete or ends the file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, ids: Iterable[str]) -> None:
        """These are acknowledged."""
        os.write(self._file, "".join(f"{id_}\n" for id_ in ids).encode())
        os.fdatasync(self._file)


async def _stream(acceptor: Acceptor, ledger: _Ledger, batch: int) -> None:
    while True:
        accepted = await acceptor.accept([submission() for _ in range(batch)])
        ledger.write(accepted.ids)


async def _fill(ledger: _Ledger, *, streams: int, batch: int) -> None:
    async with accepting(Settings(), _ROLE) as parts:
        await asyncio.gather(*(_stream(parts.acceptor, ledger, batch) for _ in range(streams)))


def main() -> None:
    """Until killed."""
    path, streams, batch = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    logs.setup(Settings(), "power")
    run(_fill(_Ledger(path), streams=streams, batch=batch))


if __name__ == "__main__":
    main()
