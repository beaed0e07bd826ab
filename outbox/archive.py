"""Closed events with the contents of their messages, in compressed, hashed segments.

What lies here need not lie in memory: a chore (outbox/archiving.py) moves it out of the queue, and the recorder reads
from here what the stream no longer has. Names tell the range and the hash:
`events-<first>-<last>-<16 hex of SHA-256>.zst` (`.gz` before 0.2), and inside are the records of outbox/records.py.
"""

import hashlib
import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from outbox.errors import Gap
from outbox.events import Event
from outbox.object_store import ARCHIVED, Store, open_archive_store
from outbox.object_store_folder import FolderStore
from outbox.packing import unshrunk
from outbox.records import decode, encode
from outbox.tail import Recorded
from runtime.compression import compress, decompress
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_HELD = 2  # segments kept in memory by a reader: contents of up to 16 MB each


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """The numbers of its first and last event, the start of its hash, and the name that tells them."""

    first: int
    last: int
    digest: str
    name: str

    @classmethod
    def of(cls, name: str) -> Self:
        """From its name."""
        _, first, last, digest = name.partition(".")[0].split("-")
        return cls(int(first), int(last), digest, name)


class Archive:
    """Segments in a store. A reader remembers which there are, and looks again when it misses one."""

    def __init__(self, place: Path | Store) -> None:
        self.store: Store = FolderStore(place, suffix=ARCHIVED) if isinstance(place, Path) else place
        self._known: list[Segment] = []
        self._held: OrderedDict[Segment, list[Recorded]] = OrderedDict()

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """The archive that the settings name."""
        return cls(open_archive_store(settings))

    def segments(self) -> list[Segment]:
        """All segments in order, as they are now."""
        self._known = _sorted(self.store.names())
        return self._known

    def later(self, number: int) -> list[Segment]:
        """The segments that reach beyond this event, in order."""
        found = _sorted(self.store.names(f"events-{number:012d}" if number else ""))
        return [segment for segment in found if segment.last > number]

    def is_whole(self, segment: Segment) -> bool:
        """Whether the store gives what was written."""
        octets = self.store.get(segment.name)
        return octets is not None and _digest(octets) == segment.digest

    def write(self, events: list[Recorded]) -> Segment:
        """Keep consecutive events as one segment, durable and read back on return. Raises ObjectsUnavailable."""
        octets = _pack(events)
        digest = _digest(octets)
        first, last = events[0].event.number, events[-1].event.number
        name = f"events-{first:012d}-{last:012d}-{digest}.zst"
        self.store.put(name, octets)
        return Segment.of(name)

    def read(self, after: int, limit: int) -> list[Recorded]:
        """Events from number `after` + 1 on, within one segment; none when no segment has that number.

        Raises Gap when the segment that has it is damaged, ObjectsUnavailable when nobody can tell.
        """
        segment = self._with(after + 1)
        if segment is None:
            return self._over_a_seam(after, limit)
        events = self._load(segment)
        start = bisect_right(events, after, key=lambda recorded: recorded.event.number)
        return events[start : start + limit]

    def _over_a_seam(self, after: int, limit: int) -> list[Recorded]:
        """The segment behind `after`, if a rebuild of the queue lies between (`Event.follows`)."""
        at = bisect_right(self._known, after, key=lambda segment: segment.first)
        events = self._load(self._known[at]) if at < len(self._known) else []
        return events[:limit] if events and events[0].event.follows(after) else []

    def _with(self, number: int) -> Segment | None:
        """The segment that has the event: among those known, those that came since, or all that are there."""
        found = self._known_with(number)
        if found is None:
            newest = self._known[-1].name if self._known else ""
            self._known += _sorted(self.store.names(newest))
            found = self._known_with(number)
        if found is None and self._known:
            self.segments()
            found = self._known_with(number)
        return found

    def _known_with(self, number: int) -> Segment | None:
        at = bisect_right(self._known, number, key=lambda segment: segment.first) - 1
        return self._known[at] if at >= 0 and self._known[at].last >= number else None

    def _load(self, segment: Segment) -> list[Recorded]:
        if segment not in self._held:
            octets = self.store.get(segment.name)
            if octets is None or _digest(octets) != segment.digest:
                self._known.remove(segment)
                what = "gone" if octets is None else "damaged"
                raise Gap(segment.first, because=f"archive segment {segment.name} is {what}")
            self._held[segment] = _unpack(octets)
            while len(self._held) > _HELD:
                self._held.popitem(last=False)
        return self._held[segment]


def _digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()[:16]


def _sorted(names: Iterable[str]) -> list[Segment]:
    return sorted(Segment.of(name) for name in names if name.startswith("events-"))


def _pack(events: list[Recorded]) -> bytes:
    plain = b"".join(
        encode({"n": r.event.number, "e": r.event.fields, "content": r.packed is not None}, r.content or b"")
        for r in events
    )
    return compress(plain)


def _unpack(octets: bytes) -> list[Recorded]:
    return [
        Recorded(Event(header["n"], header["e"]), unshrunk(blob) if header["content"] else None)
        for _, header, blob in decode(io.BytesIO(decompress(octets)))
    ]
