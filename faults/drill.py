"""One drill: an own stack, open-loop load by HTTP and SMTP, trouble in the middle, and an account of every mail.

The ledger is kept by the client, outside everything that is broken; the mailbox wrote each mail down before its 250.
"""

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from nightmail.client_details import ClientDetails
from nightmail.demo.http_sender import HttpSender
from nightmail.demo.ledger import Ledger, Verdict, compare
from nightmail.demo.observer import Observer
from nightmail.demo.smtp_sender import SmtpSender
from nightmail.ready import reachable
from nightmail.stack_folder import StackFolder, read_environment

_LATE = 1.0  # seconds from accept to mailbox that are worth a note
_QUIET = 60.0  # seconds for the last mail to arrive and to be recorded

Trouble = Callable[["Drill"], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Load:
    """How many mails at how many a second."""

    mails: int
    rate: float


@dataclass(frozen=True, slots=True)
class Account:
    """What came of a drill. `flagged` counts attempts marked as possible duplicates; `rows` are what SQLite holds."""

    verdict: Verdict
    refusals: tuple[str, ...]
    rows_wrong: int
    flagged: int
    notes: tuple[str, ...]


class Drill:
    """The load and what is known while it runs; a trouble uses `observer`, `processes` and `note`."""

    def __init__(self, folder: StackFolder, load: Load) -> None:
        self.folder = folder
        self.load = load
        self.ledger = Ledger(secrets.token_hex(4))
        self.observer: Observer
        self._notes: list[str] = []
        self._began = time.time()

    def note(self, words: str, *, at: float | None = None) -> None:
        """Remember something for the report, at a wall clock time, or now."""
        self._notes.append(f"{(at or time.time()) - self._began:7.2f} s  {words}")

    def processes(self) -> dict[str, int]:
        """Name and process id of what runs now."""
        state = self.folder.state() or {"processes": []}
        return {process["name"]: process["pid"] for process in state["processes"] if process["pid"]}

    async def run(self, trouble: Trouble) -> Account:
        """Send, break, wait until it is quiet, compare."""
        details = ClientDetails.from_environment(read_environment(self.folder.local_env))
        variables = read_environment(self.folder.stack_env)
        mailbox_url = f"http://{reachable(details.smtp_host)}:{variables['NIGHTMAIL_MAILBOX_PORT']}"
        async with (
            Observer(details, mailbox_url) as self.observer,
            HttpSender(details, self.ledger) as http,
            SmtpSender(details, self.ledger) as smtp,
        ):
            self._began = time.time()
            breaking = asyncio.create_task(trouble(self))
            await self._send_all((http.send, smtp.send))
            await breaking
            arrived = await self._quiet()
            history = await self.observer.history(self.ledger.run)
        verdict = compare(self.ledger, arrived, history)
        self._note_slow(arrived)
        wrong, flagged = self._rows()
        return Account(verdict, tuple(self.ledger.refusals.values())[:5], wrong, flagged, tuple(sorted(self._notes)))

    def _note_slow(self, arrived: list[dict[str, Any]]) -> None:
        """Which mails were late, second by second, so that a delay can be held against what was broken then."""
        late: dict[int, list[float]] = {}
        for message in arrived:
            receipt = self.ledger.receipts.get(self.ledger.number(message["subject"]))
            delay = message["received_at"] / 1000 - receipt.accepted_at if receipt else 0.0
            if receipt and delay > _LATE:
                late.setdefault(int(receipt.accepted_at), []).append(delay)
        for second, delays in late.items():
            self.note(
                f"{len(delays)} mails accepted in this second were late, by {max(delays):.1f} s at most", at=second
            )

    async def _send_all(self, ways: tuple[Callable[[int], Awaitable[None]], ...]) -> None:
        """Open loop: each mail leaves at its time, whatever became of those before, or stalls would hide."""
        began = time.monotonic()
        sending: list[asyncio.Task[None]] = []
        for number in range(self.load.mails):
            await asyncio.sleep(max(0.0, began + number / self.load.rate - time.monotonic()))
            sending.append(asyncio.ensure_future(ways[number % len(ways)](number)))
        await asyncio.gather(*sending)

    async def _quiet(self) -> list[dict[str, Any]]:
        """Everything that arrived, once all has arrived, nothing waits and all is recorded; or after a minute."""
        deadline = time.monotonic() + _QUIET
        while time.monotonic() < deadline:
            arrived = await self.observer.arrived(self.ledger.run)
            distinct = {message["subject"] for message in arrived}
            backlog = await self.observer.backlog()
            idle = backlog["depth"] == 0 and backlog["recorder"]["behind"] == 0
            if idle and len(distinct) >= len(self.ledger.receipts):
                break
            await asyncio.sleep(0.5)
        return await self.observer.arrived(self.ledger.run)

    def _rows(self) -> tuple[int, int]:
        """Emails in the database that are missing, too many or not delivered; and attempts that are flagged."""
        with closing(sqlite3.connect(self.folder.data_dir / "history.sqlite")) as db:
            like = f"%{self.ledger.run}%"
            (emails,) = db.execute("select count(*) from emails where subject like ?", (like,)).fetchone()
            (delivered,) = db.execute(
                "select count(*) from recipients join emails on emails.id = recipients.email_id"
                " where emails.subject like ? and recipients.state = 'delivered'",
                (like,),
            ).fetchone()
            (flagged,) = db.execute(
                "select count(*) from events where kind = 'attempted' and json_extract(body, '$.possible_duplicate')"
            ).fetchone()
        accepted = len(self.ledger.receipts)
        return abs(emails - accepted) + abs(delivered - accepted), flagged
