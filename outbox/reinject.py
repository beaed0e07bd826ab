"""Puts into the queue what only the journal holds: after the queue was away, and after this process was.

The id decides: a message that the queue has already is left as it is, so repeating is harmless. One that it may have
forgotten since, because it ended long ago, is looked for in the archive first.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

from prometheus_client import Counter, Gauge
from redis.exceptions import ResponseError

from outbox.confirmed import Ids, ids_of, mark, marked
from outbox.entry import Entry, FirstUse
from outbox.inlet import Inlet, Unconfirmed
from outbox.journal import Journal, Place
from outbox.records import Damaged, Header
from outbox.remembered import remembered
from runtime.logs import get
from runtime.settings import Settings
from runtime.tasks import end

log = get(__name__)

UNCONFIRMED = Gauge("nightmail_unconfirmed_accepts", "Accepts that lie in this journal alone", ["journal"])
LAG = Gauge("nightmail_reinjection_lag_seconds", "Age of the oldest of them", ["journal"])
REINJECTED = Counter("nightmail_reinjected_accepts_total", "Accepts put into the queue from the journal")

_AGAIN = 1.0  # seconds until what could not be put is tried again
_AT_ONCE = 64
_AT_ONCE_BYTES = 16 * 1024 * 1024  # of content


class Reinjector:
    """Works off a list of places in the journal, oldest first, whenever the queue takes appends."""

    def __init__(self, inlet: Inlet, journal: Journal, settings: Settings, *, pause: timedelta) -> None:
        self._inlet = inlet
        self._journal = journal
        self._settings = settings
        self._pause = pause.total_seconds()
        self._places: dict[Place, float] = {}  # and since when (Unix time), oldest first
        self._later: dict[Place, float] = {}  # those of them that could not be put at the last try
        self._doubtful: dict[Place, _Left] = {}  # held back until the archive was asked
        self._empty = asyncio.Event()
        self._empty.set()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find what was left unconfirmed, then work in the background.

        What the queue may have had and forgotten since waits there for the archive, of which a week may have to be
        read: a power cut took its mark.
        """
        forgotten_before = time.time() - self._settings.recent_retention.total_seconds() / 2
        for left in await asyncio.to_thread(_unconfirmed, self._journal):
            if left.since < forgotten_before:
                self._doubtful[left.place] = left
            else:
                self._places[left.place] = left.since
        if self.left:
            log.info("accept.found_unconfirmed", count=self.left, doubtful=len(self._doubtful))
        self._wake()
        self._task = asyncio.create_task(self._run())
        if self._doubtful:
            self._asking = asyncio.create_task(self._ask())

    async def stop(self) -> None:
        """End; what is left is found again at the next start."""
        await end(self._asking, self._task)

    @property
    def segments(self) -> set[Path]:
        """Segments that hold something the queue does not have yet."""
        return {place.segment for places in (self._places, self._later, self._doubtful) for place in places}

    @property
    def left(self) -> int:
        """How many accepts the queue does not have yet."""
        return len(self._places) + len(self._later) + len(self._doubtful)

    def add(self, place: Place) -> None:
        """One more accept that the queue did not confirm."""
        self._places[place] = time.time()
        self._wake()

    async def asked(self) -> None:
        """Return once the archive has told what the queue had."""
        if self._asking:
            await asyncio.wait([self._asking])

    async def caught_up(self, patience: float) -> None:
        """Return once all is put that may be put now, or after `patience` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._empty.wait()

    async def _run(self) -> None:
        while True:
            self._tell()
            if not self._places:
                self._empty.set()
                await self._for_more()
            if not await self._well():
                continue
            try:
                await self._put_some()
            except (Unconfirmed, ResponseError, OSError):
                await asyncio.sleep(self._pause)

    async def _for_more(self) -> None:
        """Wait for another accept, or until it is time to try again what could not be put."""
        self._more.clear()
        try:
            async with asyncio.timeout(_AGAIN if self._later else None):
                await self._more.wait()
        except TimeoutError:
            self._places, self._later = self._later, {}

    async def _well(self) -> bool:
        """Whether the queue takes appends, waiting a while for it: until then nothing is read for it either."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause):
                await self._inlet.well()
        return not self._inlet.is_open

    def _wake(self) -> None:
        if self._places:
            self._empty.clear()
            self._more.set()

    async def _ask(self) -> None:
        """The archive, about what the queue may have had: what it knows is marked, the rest is put."""
        doubtful = list(self._doubtful.values())
        had = await _known_to_the_archive(doubtful, self._settings)
        if had:
            log.info("accept.found_in_archive", count=len(had))
            with suppress(OSError):  # a full disk: without the mark the archive is asked again at the next start
                await self._journal.append(mark(sorted(had)))
        unknown = {left.place: left.since for left in doubtful if left.ids not in had}
        self._places = {**unknown, **self._places}
        self._doubtful.clear()
        self._wake()

    def _tell(self) -> None:
        name = self._journal.folder.name
        UNCONFIRMED.labels(name).set(self.left)
        now = time.time()
        oldest = [next(iter(places.values()), now) for places in (self._places, self._later)]
        LAG.labels(name).set(now - min(now, *oldest, *(left.since for left in self._doubtful.values())))

    async def _put_some(self) -> None:
        """The oldest. What cannot be read or put now, though the queue is well, is tried again behind the others."""
        read = await asyncio.to_thread(self._read_some, list(islice(self._places, _AT_ONCE)))
        entries = [(place, entry) for place, entry in read if isinstance(entry, Entry)]
        results = await asyncio.gather(*(self._inlet.put(entry) for _, entry in entries), return_exceptions=True)
        for (place, entry), result in zip(entries, results, strict=True):
            if not isinstance(result, BaseException):
                self._done(place, entry, result)
        for place in [place for place, entry in read if entry is None]:
            del self._places[place]
        failed: list[BaseException] = [entry for _, entry in read if isinstance(entry, OSError)]
        failed += [result for result in results if isinstance(result, BaseException)]
        if failed and not self._inlet.is_open:
            self._later |= {place: self._places.pop(place) for place, _ in read if place in self._places}
        if failed:
            raise failed[0]

    def _done(self, place: Place, entry: Entry, first_use: FirstUse | None) -> None:
        # The mark needs no fdatasync of its own: without it the entry is put again, which changes nothing.
        # A repeat is answered and never sent: another request was first with its idempotency key.
        repeat = first_use is not None and first_use != entry.first_use
        with suppress(OSError):  # nor is a full disk a reason to hold up the others
            self._journal.write(mark([entry.ids], repeat=repeat))
        del self._places[place]
        REINJECTED.inc()

    def _read_some(self, places: list[Place]) -> list[tuple[Place, Entry | OSError | None]]:
        """The first entries, so many that their contents fit into memory."""
        read: list[tuple[Place, Entry | OSError | None]] = []
        weight = 0
        for place in places:
            entry = self._read(place)
            read.append((place, entry))
            weight += sum(len(s.content) for s in entry.submissions) if isinstance(entry, Entry) else 0
            if weight > _AT_ONCE_BYTES:
                break
        return read

    def _read(self, place: Place) -> Entry | OSError | None:
        """The entry there; None for one that cannot be read any more, which must not hold up those behind it."""
        try:
            return Entry.from_record(*self._journal.read(place))
        except (Damaged, FileNotFoundError, RuntimeError) as damage:  # RuntimeError: the segment ends before the place
            log.error("accept.unconfirmed_unreadable", place=str(place), error=str(damage))
            return None
        except OSError as failure:
            log.error("accept.unconfirmed_unreadable_now", place=str(place), error=str(failure))
            return failure


@dataclass(frozen=True, slots=True)
class _Left:
    """An accept that bears no mark; `since` is the Unix time at which its first message was made."""

    ids: Ids
    place: Place
    since: float


def _unconfirmed(journal: Journal) -> list[_Left]:
    """Accepts that were neither confirmed when written nor marked so later."""
    left: dict[Ids, _Left] = {}
    confirmed: set[Ids] = set()  # met before the accept, which is large and has its own segment
    for place, header, _ in journal.replay():
        if header["kind"] == "accepted" and not header["confirmed"]:
            one = _left(header, place)
            if one.ids not in confirmed:
                left[one.ids] = one
        elif header["kind"] == "confirmed":
            confirmed.update(ids for ids in marked(header) if left.pop(ids, None) is None)
    return list(left.values())


def _left(header: Header, place: Place) -> _Left:
    since = header["messages"][0]["created_at"] / 1000
    return _Left(ids_of(header), place, since)


async def _known_to_the_archive(doubtful: Sequence[_Left], settings: Settings) -> set[Ids]:
    since = int(min(left.since for left in doubtful) * 1000)
    known = await remembered(settings, {i for left in doubtful for i in left.ids}, since=since)
    return {left.ids for left in doubtful if known.issuperset(left.ids)}
