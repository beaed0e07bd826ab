"""`kill -9` of any process of a stack that tends itself: each in turn, or at random."""

import asyncio
import random
import time

from faults.drill import Drill
from faults.troubles.database import modes

KILLABLE = ("api", "smtp", "worker-1", "valkey", "recorder", "control", "mailbox", "chores", "ticker")
_PAUSE = 0.5  # seconds between two kills, on average: some hit a process that is still starting


async def kill_each(drill: Drill) -> None:
    """Every process in turn, while the database goes through its modes."""
    switching = asyncio.create_task(modes(drill))
    pause = drill.seconds / (len(KILLABLE) + 1)
    for name in KILLABLE:
        await asyncio.sleep(pause)
        await drill.kill(name)
        drill.note(f"killed {name}; started again after {drill.kills[-1].back_at - drill.kills[-1].at:.2f} s")
    await switching
    drill.spans.clear()  # the kills fall on both phases


async def kill_at_random(drill: Drill) -> None:
    """One after the other, for as long as the load lasts."""
    chance = random.Random(drill.ledger.run)  # noqa: S311 - moments, not secrets
    end = time.monotonic() + drill.seconds * 0.95
    while time.monotonic() < end:
        await drill.kill(chance.choice(KILLABLE))
        await asyncio.sleep(chance.uniform(0, 2 * _PAUSE))
    names = [kill.name for kill in drill.kills]
    drill.note("killed: " + ", ".join(f"{name} {names.count(name)}" for name in KILLABLE))
