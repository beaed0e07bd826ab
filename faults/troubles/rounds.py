"""Health, fault, health, fault: noise of the machine then falls on both alike."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from faults.drill import Drill, Trouble
from faults.phases import Phase

_ONSET = 0.5  # seconds until a breaker is surely open: figures of the queue are asked from then on


@dataclass(frozen=True, slots=True)
class Breakage:
    """What breaks a store and what mends it; both may block."""

    name: str
    begin: Callable[[Drill], None]
    end: Callable[[Drill], None]


def rounds(breakage: Breakage, *, count: int = 3, onset: float = 0.0) -> Trouble:
    """Break and mend `count` times. `onset` seconds of each fault are not timed as such."""

    async def trouble(drill: Drill) -> None:
        span = drill.seconds / count
        for _ in range(count):
            with drill.phase(Phase.BASELINE):
                await asyncio.sleep(span * 0.4)
            await asyncio.to_thread(breakage.begin, drill)
            drill.note(f"{breakage.name}: begin")
            await asyncio.sleep(onset)
            with drill.phase(Phase.FAULT):
                await asyncio.sleep(span * 0.4)
            await asyncio.to_thread(breakage.end, drill)
            drill.note(f"{breakage.name}: end")
            await drill.calm(span * 0.2)

    return trouble


def outage(breakage: Breakage) -> Trouble:
    """One long fault, timed once the breakers are open."""
    return rounds(breakage, count=1, onset=_ONSET)
