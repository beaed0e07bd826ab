"""The stage of a replay: a protected PostgreSQL, a whole stack on it, load that does not wait, eyes, and a diary."""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from nightmail.client_details import ClientDetails
from nightmail.demo.http_sender import HttpSender
from nightmail.demo.ledger import Ledger, Verdict, compare
from nightmail.demo.observer import Observer
from nightmail.demo.own_stack import own_stack
from nightmail.demo.smtp_sender import SmtpSender
from nightmail.ready import reachable
from nightmail.replay.database import LiveDatabase, new_passwords
from nightmail.replay.figures import Phases
from nightmail.replay.postgres import Postgres, free_port
from nightmail.replay.watch import Watch
from nightmail.stack_folder import StackFolder, read_environment
from runtime.settings import Settings

_QUIET = 60.0  # seconds for the last mail to arrive and to be recorded
# A small stream, so that a refill must come from the archive, as after a long outage.
_VARIABLES = {"NIGHTMAIL_STREAM_KEEP": "1"}


@dataclass(frozen=True, slots=True)
class Load:
    """Mails a second, half by HTTP and half by SMTP, and seconds before the fault and of it."""

    rate: float = 40.0
    baseline: float = 20.0
    fault: float = 30.0

    @property
    def warm_up(self) -> float:
        """Seconds before the baseline: connections are opened, caches filled."""
        return self.baseline / 4

    @property
    def after(self) -> float:
        """Seconds after the fault."""
        return self.fault / 3


@dataclass(slots=True)
class Stage:
    """What a course of events works with. `note` writes the diary: seconds since the fault, and words."""

    load: Load
    folder: StackFolder
    server_folder: Path
    database: LiveDatabase
    settings: Settings
    details: ClientDetails
    watch: Watch
    observer: Observer
    ledger: Ledger
    phases: Phases = field(default_factory=Phases)
    diary: list[tuple[float, str]] = field(default_factory=list)
    sending: bool = True
    sent: int = 0

    def note(self, words: str) -> None:
        """Remember what happens now."""
        self.diary.append((time.time(), words))

    async def after(self, seconds: float) -> None:
        """Let the load run."""
        await asyncio.sleep(seconds)

    async def send_until_told(self) -> None:
        """Open loop: each mail leaves at its time, whatever became of those before, or stalls would hide."""
        async with HttpSender(self.details, self.ledger) as http, SmtpSender(self.details, self.ledger) as smtp:
            ways: tuple[Callable[[int], Awaitable[None]], ...] = (http.send, smtp.send)
            began, tasks = time.monotonic(), []
            while self.sending:
                tasks.append(asyncio.ensure_future(ways[self.sent % len(ways)](self.sent)))
                self.sent += 1
                await asyncio.sleep(max(0.0, began + self.sent / self.load.rate - time.monotonic()))
            await asyncio.gather(*tasks)

    @property
    def unanswered(self) -> int:
        """Mails that were sent and not yet taken or refused."""
        return self.sent - len(self.ledger.receipts) - len(self.ledger.refusals)

    async def settle(self) -> tuple[Verdict, Mapping[int, float]]:
        """Wait until nothing waits and all is recorded, or a minute; the account, and when each mail first arrived."""
        deadline = time.monotonic() + _QUIET
        while time.monotonic() < deadline:
            backlog = await self.observer.backlog()
            if backlog["depth"] == 0 and backlog["recorder"]["behind"] == 0:
                break
            await asyncio.sleep(0.25)
        arrived = await self.observer.arrived(self.ledger.run)
        first: dict[int, float] = {}
        for message in arrived:
            first.setdefault(self.ledger.number(message["subject"]), message["received_at"] / 1000)
        verdict = compare(self.ledger, arrived, await self.observer.history(self.ledger.run))
        return verdict, first

    def processes(self) -> dict[str, int]:
        """Name and process id of what runs now."""
        state = self.folder.state() or {"processes": []}
        return {process["name"]: process["pid"] for process in state["processes"] if process["pid"]}


@contextlib.asynccontextmanager
async def stage(load: Load, *, options: Mapping[str, str] | None = None) -> AsyncIterator[Stage]:
    """Build it all, and take it all down. Raises Complaint."""
    with _database(options or {}) as (folder, database), _stack(database) as stack:
        details = ClientDetails.from_environment(read_environment(stack.local_env))
        variables = read_environment(stack.stack_env)
        mailbox = f"http://{reachable(details.smtp_host)}:{variables['NIGHTMAIL_MAILBOX_PORT']}"
        async with Observer(details, mailbox) as observer, Watch(details) as watch:
            yield Stage(
                load=load,
                folder=stack,
                server_folder=folder,
                database=database,
                settings=_settings(variables),
                details=details,
                watch=watch,
                observer=observer,
                ledger=Ledger(secrets.token_hex(4)),
            )


@contextlib.contextmanager
def _database(options: Mapping[str, str]) -> Iterator[tuple[Path, LiveDatabase]]:
    folder = Path(tempfile.mkdtemp(prefix="nightmail-replay-"))
    database = LiveDatabase(
        Postgres(folder / "live", port=free_port(), options=options), new_passwords(secrets.token_hex(8))
    )
    try:
        database.server.initialise()
        database.server.start()
        database.make()
        yield folder, database
    finally:
        database.server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _stack(database: LiveDatabase) -> contextlib.AbstractContextManager[StackFolder]:
    urls = {
        "NIGHTMAIL_DATABASE_URL": database.url("nightmail_recorder"),
        "NIGHTMAIL_DATABASE_CONTROL_URL": database.url("nightmail_control"),
    }
    return own_stack({**_VARIABLES, **urls})


def _settings(variables: Mapping[str, str]) -> Settings:
    """Those of the stack, for what an operator does beside it."""
    given: dict[str, Any] = {name.removeprefix("NIGHTMAIL_").lower(): value for name, value in variables.items()}
    return Settings(**given | {"redis_url": SecretStr(variables["NIGHTMAIL_REDIS_URL"])})
