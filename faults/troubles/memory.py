"""The queue loses its memory under load: an administrator's FLUSHALL. A person's one command brings it back."""

import asyncio
import os
import signal
import time

from faults.command import answer_of
from faults.drill import Drill
from faults.figures import Figure, at_most, none_of, told
from faults.phases import Phase
from faults.sink import count_distinct

_STUCK = 0.5  # seconds of deliveries that get stuck before the loss
_NOTICED = 2.0  # seconds until the stack says so
_STANDS = 0.2  # of the drill's time that the queue stands still before the person comes
_LAST_WORDS = 1.0  # seconds for what was under way at the loss to arrive


async def flushed(drill: Drill) -> None:
    """FLUSHALL; accepting goes on and delivering does not; `nightmail rebuild queue`; all is delivered."""
    with drill.phase(Phase.BASELINE):
        await asyncio.sleep(drill.seconds * 0.3)
    at = await _flush_in_mid_attempt(drill)
    with drill.phase(Phase.FAULT):
        noticed = await _until_lost(drill, seconds=10 * _NOTICED)
        drill.figures.append(at_most("noticed", _NOTICED, noticed - at, unit="s"))
        await asyncio.sleep(_LAST_WORDS)
        before = count_distinct(drill.mailbox, drill.ledger.run)
        await asyncio.sleep(drill.seconds * _STANDS)
        after = count_distinct(drill.mailbox, drill.ledger.run)
        drill.figures.append(none_of("delivered from the emptied queue", after - before))
        rebuilt = await answer_of(drill.folder, drill.stores.variables(), "rebuild", "queue", "--json")
    drill.note(f"rebuilt: {rebuilt['restored']} put back, {rebuilt['in_doubt']} of them in doubt")
    waiting = rebuilt["waiting"]
    drill.figures += [
        Figure("put back to be delivered", "> 0", str(waiting), waiting > 0),
        told("in doubt, and flagged", str(rebuilt["in_doubt"])),
        told("from FLUSHALL to the end of the rebuild", f"{time.time() - at:.1f} s"),
    ]


async def _flush_in_mid_attempt(drill: Drill) -> float:
    """While the next hop keeps the workers waiting: their receipts are written after the loss. When it was."""
    mailbox = drill.processes()["mailbox"]
    os.kill(mailbox, signal.SIGSTOP)
    await asyncio.sleep(_STUCK)
    await asyncio.to_thread(_flush, drill)
    at = time.time()
    os.kill(mailbox, signal.SIGCONT)
    drill.note("FLUSHALL")
    return at


def _flush(drill: Drill) -> None:
    if drill.stores.valkey is None:
        raise LookupError("this drill needs a Valkey of its own")
    with drill.stores.valkey.client() as admin:
        admin.flushall()


async def _until_lost(drill: Drill, *, seconds: float) -> float:
    """When the backlog said it, by the wall clock; the end of our patience if it did not."""
    deadline = time.time() + seconds
    while time.time() < deadline and (await drill.observer.backlog())["queue"] != "lost":  # noqa: ASYNC110 - asked
        await asyncio.sleep(0.05)
    return time.time()
