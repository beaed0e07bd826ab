"""Puts into the queue what only the journal holds: after the queue was away, and after this process was.

The id decides: a message that the queue has already is left as it is, so repeating is harmless.
"""

import asyncio
from collections import deque
from datetime import timedelta
from pathlib import Path

from prometheus_client import Gauge
from redis.exceptions import ResponseError

from outbox.entry import Entry
from outbox.inlet import Inlet, Unconfirmed
from outbox.journal import Journal, Place
from runtime.logs import get

log = get(__name__)

UNCONFIRMED = Gauge("nightmail_unconfirmed_accepts", "Accepts that lie in the journal and not yet in the queue")

_AT_ONCE = 64


class Reinjector:
    """Works off a list of places in the journal, oldest first, whenever the queue takes appends."""

    def __init__(self, inlet: Inlet, journal: Journal, *, pause: timedelta) -> None:
        self._inlet = inlet
        self._journal = journal
        self._pause = pause.total_seconds()
        self._places: deque[Place] = deque()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find what was left unconfirmed, then work in the background."""
        self._places.extend(await asyncio.to_thread(unconfirmed, self._journal))
        if self._places:
            log.info("accept.found_unconfirmed", count=len(self._places))
            self._more.set()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; what is left is found again at the next start."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def segments(self) -> set[Path]:
        """Segments that hold something the queue does not have yet."""
        return {place.segment for place in self._places}

    def add(self, place: Place) -> None:
        """One more accept that the queue did not confirm."""
        self._places.append(place)
        self._more.set()

    async def _run(self) -> None:
        while True:
            UNCONFIRMED.set(len(self._places))
            if not self._places:
                self._more.clear()
                await self._more.wait()
            try:
                await self._put_some()
            except (Unconfirmed, ResponseError, OSError):
                await asyncio.sleep(self._pause)

    async def _put_some(self) -> None:
        places = [self._places[i] for i in range(min(_AT_ONCE, len(self._places)))]
        entries = [Entry.from_record(*self._journal.read(place)) for place in places]
        results = await asyncio.gather(*(self._inlet.put(entry) for entry in entries), return_exceptions=True)
        for place, entry, result in zip(places, entries, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            # The mark needs no fdatasync of its own: without it the entry is put again, which changes nothing.
            self._journal.write({"kind": "confirmed", "ids": entry.ids})
            self._places.remove(place)


def unconfirmed(journal: Journal) -> list[Place]:
    """Places of accepts that were neither confirmed when written nor marked so later."""
    open_places: dict[tuple[str, ...], Place] = {}
    for place, header, _ in journal.replay():
        if header["kind"] == "accepted" and not header["confirmed"]:
            open_places[tuple(message["id"] for message in header["messages"])] = place
        elif header["kind"] == "confirmed":
            open_places.pop(tuple(header["ids"]), None)
    return list(open_places.values())
