"""The demo's course: send at a steady rate, take the database away, give it back, wait for the last mail, compare."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nightmail.client_details import ClientDetails
from nightmail.demo.display import Display
from nightmail.demo.http_sender import HttpSender
from nightmail.demo.ledger import Ledger, Verdict, compare
from nightmail.demo.observer import Observer
from nightmail.demo.smtp_sender import SmtpSender

_LOOK = 0.5  # seconds between two looks at mailbox and recorder
_PATIENCE = 30.0  # seconds for the last mail to arrive and to be recorded


@dataclass(frozen=True, slots=True)
class Plan:
    """How many mails in how many seconds, and when in that time the database goes and comes back."""

    mails: int = 2_000
    seconds: float = 40.0
    away: float = 1 / 3
    back: float = 2 / 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is told at the end. `outage` and `catch_up` in seconds."""

    verdict: Verdict
    refusals: tuple[str, ...]
    outage: float
    catch_up: float


class Story:
    """One run of the demo against a stack that is up."""

    def __init__(self, plan: Plan, ledger: Ledger, display: Display) -> None:
        self._plan = plan
        self._ledger = ledger
        self._display = display
        self._arrived: list[dict[str, object]] = []

    async def tell(self, details: ClientDetails, mailbox_url: str) -> Outcome:
        """Run it all."""
        async with (
            Observer(details, mailbox_url) as observer,
            HttpSender(details, self._ledger) as http,
            SmtpSender(details, self._ledger) as smtp,
        ):
            watching = asyncio.create_task(self._watch(observer))
            outage = asyncio.create_task(self._outage(observer))
            await self._send_all((http.send, smtp.send))
            lasted, catch_up = await outage
            await self._settle(observer)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self._look(observer)
            history = await observer.history(self._ledger.run)
        verdict = compare(self._ledger, self._arrived, history)
        return Outcome(verdict, tuple(self._ledger.refusals.values())[:5], lasted, catch_up)

    async def _send_all(self, ways: tuple[Callable[[int], Awaitable[None]], ...]) -> None:
        """Open loop: each mail leaves at its time, whatever became of those before, or stalls would hide."""
        began = time.monotonic()
        sending: list[asyncio.Task[None]] = []
        for number in range(self._plan.mails):
            due = began + number * self._plan.seconds / self._plan.mails
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sending.append(asyncio.ensure_future(ways[number % len(ways)](number)))
        await asyncio.gather(*sending)

    async def _outage(self, observer: Observer) -> tuple[float, float]:
        """Take the database away and give it back; how long it was away and how long the recorder then needed."""
        await asyncio.sleep(self._plan.away * self._plan.seconds)
        await observer.switch_database("down")
        gone = time.monotonic()
        self._display.say("The main database is taken away.")
        await asyncio.sleep((self._plan.back - self._plan.away) * self._plan.seconds)
        missed = await observer.recorder()
        await observer.switch_database("up")
        back = time.monotonic()
        self._display.say(f"The main database is back; the recorder is {missed['behind']} events behind.")
        while (await observer.recorder())["checkpoint"] < missed["newest"]:  # noqa: ASYNC110 - it is another process's
            await asyncio.sleep(0.02)
        self._display.say("The recorder has caught up.")
        return back - gone, time.monotonic() - back

    async def _watch(self, observer: Observer) -> None:
        while True:
            await self._look(observer)
            await asyncio.sleep(_LOOK)

    async def _look(self, observer: Observer) -> None:
        after = int(str(self._arrived[-1]["n"])) if self._arrived else 0
        self._arrived += await observer.arrived(self._ledger.run, after=after)
        recorder = await observer.recorder()
        note = f"{recorder['state']}, {recorder['behind']} events behind" if recorder["behind"] else recorder["state"]
        self._display.show("accepted", len(self._ledger.receipts), note=f"{len(self._ledger.refusals)} refused")
        self._display.show("delivered", len(self._arrived))
        done = recorder["checkpoint"] / recorder["newest"] if recorder["newest"] else 0.0
        self._display.show("recorded", int(done * len(self._arrived)), note=note)

    async def _settle(self, observer: Observer) -> None:
        """Wait until everything accepted has arrived and is recorded, but not for ever: what is missing is lost."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            arrived = len(self._arrived) >= len(self._ledger.receipts)
            if arrived and (await observer.recorder())["behind"] == 0:
                return
            await asyncio.sleep(0.1)
