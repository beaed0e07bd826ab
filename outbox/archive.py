"""Closed events with the contents of their messages, in compressed, hashed segments on disk: a chore, no database.

What lies here need not lie in memory: the stream is trimmed behind it, ended messages are forgotten behind it, and
the recorder reads from here what the stream no longer has. Names tell the range and the hash:
`events-<first>-<last>-<16 hex of SHA-256>.gz`, and inside are the records of outbox/records.py.
"""

import gzip
import hashlib
import io
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from redis import Redis

from outbox.errors import Gap
from outbox.events import Event
from outbox.journal import sync_folder
from outbox.records import decode, encode
from outbox.tail import Recorded, Tail
from runtime.clock import from_ms
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_SEGMENT_EVENTS = 5_000
_LONGEST_OPEN = timedelta(seconds=30)  # events this old are archived even if they are few
_LEVEL = 1  # fast: the archive must keep up with delivery


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """One file: the numbers of its first and last event, and the start of its hash."""

    first: int
    last: int
    digest: str
    path: Path

    @classmethod
    def of(cls, path: Path) -> Self:
        """From its name."""
        _, first, last, digest = path.name.removesuffix(".gz").split("-")
        return cls(int(first), int(last), digest, path)


class Archive:
    """A folder of segments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: tuple[Segment, list[Recorded]] | None = None

    def segments(self) -> list[Segment]:
        """All segments in order."""
        return sorted(Segment.of(path) for path in self.folder.glob("events-*.gz"))

    def newest(self) -> int:
        """The number of the newest archived event, 0 when there is none."""
        return max((segment.last for segment in self.segments()), default=0)

    def write(self, events: list[Recorded]) -> Segment:
        """Keep consecutive events as one segment, durable on return."""
        octets = _pack(events)
        digest = hashlib.sha256(octets).hexdigest()[:16]
        first, last = events[0].event.number, events[-1].event.number
        path = self.folder / f"events-{first:012d}-{last:012d}-{digest}.gz"
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        with fresh.open("wb") as stream:
            stream.write(octets)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
        sync_folder(self.folder)
        return Segment.of(path)

    def read(self, after: int, limit: int) -> list[Recorded]:
        """Events from number `after` + 1 on, within one segment; none when no segment has that number.

        Raises Gap when the segment that has it is damaged.
        """
        for segment in self.segments():
            if segment.first <= after + 1 <= segment.last:
                wanted = [r for r in self._load(segment) if r.event.number > after]
                return wanted[:limit]
        return []

    def _load(self, segment: Segment) -> list[Recorded]:
        if self._read is None or self._read[0] != segment:
            octets = segment.path.read_bytes()
            if hashlib.sha256(octets).hexdigest()[:16] != segment.digest:
                raise Gap(segment.first, because=f"archive segment {segment.path.name} is damaged")
            self._read = (segment, _unpack(octets))
        return self._read[1]


def archive_once(redis: Redis, settings: Settings, *, now: datetime) -> int:
    """Archive what the stream holds beyond the archive, if it is enough or old enough; how many events that were."""
    archive = Archive(settings.data_dir / "archive")
    tail = Tail(redis, settings.queue_prefix)
    newest = archive.newest()
    events = tail.read(newest, _SEGMENT_EVENTS)
    if events:
        opened_at = from_ms(events[0].event.fields["at"])
        if len(events) < _SEGMENT_EVENTS and now - opened_at < _LONGEST_OPEN:
            return 0
        if events[0].event.number != newest + 1:
            log.error("archive.gap", expected=newest + 1, found=events[0].event.number)
        segment = archive.write(events)
        log.info("archive.segment_closed", segment=segment.path.name, events=len(events))
        newest = segment.last
    tail.trim(archived=newest, keep=settings.stream_keep)
    return len(events)


def _pack(events: list[Recorded]) -> bytes:
    plain = b"".join(
        encode({"n": r.event.number, "e": r.event.fields, "content": r.content is not None}, r.content or b"")
        for r in events
    )
    return gzip.compress(plain, _LEVEL, mtime=0)


def _unpack(octets: bytes) -> list[Recorded]:
    return [
        Recorded(Event(header["n"], header["e"]), blob if header["content"] else None)
        for _, header, blob in decode(io.BytesIO(gzip.decompress(octets)))
    ]
