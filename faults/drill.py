"""One drill: an own stack, open-loop load by HTTP and SMTP, trouble in the middle, and an account of every mail.

The ledger is kept by the client, outside everything that is broken; the mailbox wrote each mail down before its 250.
"""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from faults.checker import Account, Kill, check
from faults.figures import Figure
from faults.load import Load, send_all
from faults.phases import Phase, Span
from faults.rows import rows
from faults.sink import arrivals, count_distinct
from faults.stores import Stores
from nightmail.client_details import ClientDetails
from nightmail.demo.http_sender import HttpSender
from nightmail.demo.ledger import Ledger
from nightmail.demo.observer import Observer
from nightmail.demo.smtp_sender import SmtpSender
from nightmail.ready import reachable
from nightmail.stack_folder import StackFolder, read_environment

_WARM_UP = 2.0  # seconds of load before anything is timed or broken: connections open, caches fill
_QUIET = 90.0  # seconds for the last mail to arrive and to be recorded
_LATE = 1.0  # seconds from the client's first try to the mailbox that are worth a note
_CALM = 5.0  # longest wait for health between two rounds

Trouble = Callable[["Drill"], Coroutine[Any, Any, None]]


class Drill:
    """The load, and what a trouble uses: `phase`, `kill`, `note`, `observer`, `processes`, `stores`."""

    def __init__(
        self,
        folder: StackFolder,
        load: Load,
        stores: Stores,
        *,
        ledger: Ledger | None = None,
        details: ClientDetails | None = None,
    ) -> None:
        self.folder = folder
        self._details = details  # where the clients go; None: to the stack itself
        self.load = load
        self.stores = stores
        self.ledger = ledger or Ledger(secrets.token_hex(4))
        self.observer: Observer
        self.mailbox = folder.data_dir / "mailbox.sqlite"
        self.spans: list[Span] = []
        self.kills: list[Kill] = []
        self.figures: list[Figure] = []  # what only this trouble measures
        self._notes: list[str] = []
        self._began = time.time()

    @property
    def seconds(self) -> float:
        """How long a trouble may take."""
        return max(1.0, self.load.seconds - _WARM_UP)

    @property
    def notes(self) -> list[str]:
        """What was noted, in the order of time."""
        return sorted(self._notes)

    def note(self, words: str, *, at: float | None = None) -> None:
        """Remember something for the report, at a wall clock time, or now."""
        self._notes.append(f"{(at or time.time()) - self._began:7.2f} s  {words}")

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """What happens inside is timed as this phase."""
        begin = time.time()
        yield
        self.spans.append(Span(phase, begin, time.time()))

    def processes(self) -> dict[str, int]:
        """Name and process id of what runs now."""
        state = self.folder.state() or {"processes": []}
        return {process["name"]: process["pid"] for process in state["processes"] if process["pid"]}

    async def kill(self, name: str) -> None:
        """`kill -9` one process, and wait until the supervisor has another in its place."""
        pid = self.processes()[name]
        at = time.time()
        os.kill(pid, signal.SIGKILL)
        while self.processes().get(name) in {None, pid}:  # noqa: ASYNC110 - it is another process's
            await asyncio.sleep(0.02)
        self.kills.append(Kill(name, at, time.time()))

    async def calm(self, at_most: float = _CALM) -> None:
        """Wait until hardly anything waits and the recorder has caught up, or for so many seconds."""
        deadline = time.monotonic() + at_most
        while time.monotonic() < deadline:
            backlog = await self.observer.backlog()
            if backlog["depth"] < self.load.rate / 4 and backlog["recorder"]["behind"] < self.load.rate:
                return
            await asyncio.sleep(0.1)

    async def run(self, trouble: Trouble) -> Account:
        """Send, break, wait until it is quiet, compare."""
        details = self._details or ClientDetails.from_environment(read_environment(self.folder.local_env))
        variables = read_environment(self.folder.stack_env)
        mailbox_url = f"http://{reachable(details.smtp_host)}:{variables['NIGHTMAIL_MAILBOX_PORT']}"
        async with (
            Observer(details, mailbox_url) as self.observer,
            HttpSender(details, self.ledger) as http,
            SmtpSender(details, self.ledger) as smtp,
        ):
            self._began = time.time()
            async with asyncio.TaskGroup() as tasks:  # a trouble that fails ends the load too
                tasks.create_task(self._break(trouble))
                tasks.create_task(send_all(self.load, (http.send, smtp.send)))
            await self._quiet()
        return await asyncio.to_thread(self._account)

    async def _break(self, trouble: Trouble) -> None:
        await asyncio.sleep(min(_WARM_UP, self.load.seconds / 5))
        await trouble(self)

    async def _quiet(self) -> None:
        """Wait until all has arrived, nothing waits and all is recorded; but not for ever: what is missing is lost."""
        deadline = time.monotonic() + _QUIET
        while time.monotonic() < deadline:
            if await self._is_quiet():
                return
            await asyncio.sleep(0.25)
        self.note(f"not quiet after {_QUIET:.0f} s")

    async def _is_quiet(self) -> bool:
        distinct = await asyncio.to_thread(count_distinct, self.mailbox, self.ledger.run)
        if distinct < len(self.ledger.receipts):
            return False
        try:
            backlog = await self.observer.backlog()
        except httpx.HTTPError:
            return False
        recorder = backlog["recorder"]  # one that waits for its tables may not know yet how far behind it is
        return bool(backlog["depth"] == 0 and recorder["behind"] == 0 and recorder["state"] == "ok")

    def _account(self) -> Account:
        arrived = arrivals(self.mailbox, self.ledger)
        held = rows(self.stores.database_url(self.folder), self.ledger)
        account = check(self.ledger, arrived, held, spans=self.spans, kills=self.kills)
        self._note_slow("arrived", {mail.number: mail.received_at for mail in reversed(arrived)})
        self._note_slow("accepted", {number: receipt.accepted_at for number, receipt in self.ledger.receipts.items()})
        for number in account.lost[:5]:
            self.note(f"lost: {self.ledger.receipts[number]}")
        for number in account.unflagged[:5]:
            copies = [f"{mail.received_at - self._began:.3f}" for mail in arrived if mail.number == number]
            self.note(f"duplicated and not flagged: #{number}, arrived at {', '.join(copies)} s")
        return account

    def _note_slow(self, what: str, at: dict[int, float]) -> None:
        """Which mails were late, second by second, so that a delay can be held against what was broken then."""
        late: dict[int, list[float]] = {}
        for number in self.ledger.receipts.keys() & at.keys():
            began = self.ledger.receipts[number].begun_at
            if at[number] - began > _LATE:
                late.setdefault(int(began), []).append(at[number] - began)
        for second, delays in late.items():
            self.note(f"{len(delays)} mails of this second {what} late, by {max(delays):.1f} s at most", at=second)
