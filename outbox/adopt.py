"""Takes care of journals that nobody writes to any more: of a process that was scaled away, or of another machine.

Their accepts that no queue confirmed are put into the queue, once by id, and marked so where they lie. A journal has
one writer, so whoever opens it is the only one who does this; a process that starts meanwhile takes the next journal.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from outbox.inlet import Inlet
from outbox.journal import Journal, is_held
from outbox.prune import Pruner
from outbox.queue import Outbox
from outbox.reinject import Reinjector
from runtime.connections import StoreError, redis_async
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_EVERY = 10.0  # seconds
_ORPHANED = 60.0  # seconds without a writer: a process that only died is back long before
_AGAIN = 3600.0  # seconds until one that was worked off is looked at again: its segments grow old, and go
_PROGRESS = 5.0  # seconds in which something must have been put, or the rest waits for the next round
_PAUSE = timedelta(milliseconds=250)
_REPLY = 5.0  # seconds
_RECEIPTS = "drain-"  # begins the names of workers' journals, which hold no accepts


class Adopter:
    """One per accepting process: looks at the journals beside its own."""

    def __init__(self, inlet: Inlet, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._inlet = inlet
        self._settings = settings
        self._clock = clock
        self._due: dict[Path, float] = {}  # journals without a writer, and when to see to them

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await self.look()
            except StoreError as failure:
                log.info("journal.adoption_put_off", error=str(failure)[:100])

    async def look(self) -> int:
        """Work off the journals that have had no writer for a minute; how many accepts were put."""
        now, put = self._clock(), 0
        free = await asyncio.to_thread(abandoned, [self._settings.data_dir])
        self._due = {folder: self._due.get(folder, now + _ORPHANED) for folder in free}
        for folder in [folder for folder, due in self._due.items() if due <= now]:
            count, left = await self.adopt(folder)
            put += count
            if not left:
                self._due[folder] = now + _AGAIN
        return put

    async def adopt(self, folder: Path) -> tuple[int, int]:
        """Work off one journal, unless it has a writer; how many accepts were put, and how many are left."""
        try:
            journal = Journal(folder)
        except BlockingIOError:
            return 0, 0
        reinjector = Reinjector(self._inlet, journal, self._settings, pause=_PAUSE)
        try:
            await reinjector.start()
            found, before = reinjector.left, -1
            await reinjector.asked()
            while reinjector.left not in {0, before}:
                before = reinjector.left
                await reinjector.caught_up(_PROGRESS)
            put = found - reinjector.left
            if found:
                log.warning("journal.adopted", journal=str(folder), reinjected=put, left=reinjector.left)
            await Pruner(self._inlet.redis, journal, reinjector, self._settings).prune_once()
            return put, reinjector.left
        finally:
            await reinjector.stop()
            await journal.close()


def abandoned(data_dirs: Sequence[Path]) -> list[Path]:
    """The journals of accepts that have no writer."""
    folders = (folder for data_dir in data_dirs for folder in sorted((data_dir / "journal").glob("*-*")))
    return [folder for folder in folders if not folder.name.startswith(_RECEIPTS) and not is_held(folder)]


async def adopt_all(settings: Settings, data_dirs: Sequence[Path]) -> int:
    """Work off all abandoned journals of these data folders at once; how many accepts were put. Raises StoreError."""
    async with redis_async(settings, timeout=_REPLY) as redis:
        outbox = Outbox(redis, settings)
        if not await outbox.look():
            return 0
        inlet = Inlet(outbox, redis, timeout=settings.redis_timeout)
        adopter = Adopter(inlet, settings)
        try:
            return sum([(await adopter.adopt(folder))[0] for folder in abandoned(data_dirs)])
        finally:
            await inlet.stop()
