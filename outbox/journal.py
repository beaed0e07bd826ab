"""The journal: what this process promised and saw, on local disk, in append-only segments with group commit.

A record is written at once, so it survives `kill -9`; `append` returns after `fdatasync`, so it survives a power cut.
Appends that arrive while one fdatasync runs share the next. After a failed write or fdatasync the segment is never
used again (the kernel may have dropped the pages): what was not yet acknowledged goes into a new one. A large record
gets a segment of its own, written in a thread: those beside it wait for neither its checksum nor its octets.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from outbox.flusher import Flusher
from outbox.records import Damaged, Header, decode, encode, front
from runtime.logs import get

log = get(__name__)

SEGMENT_BYTES = 64 * 1024 * 1024
PATIENCE = 1.0  # seconds after which an fdatasync hangs: then nothing more is begun, and the queue has to do
LARGE = 512 * 1024  # octets of a blob whose record gets a segment of its own: less takes the loop a millisecond


class Place(NamedTuple):
    """Where a record lies."""

    segment: Path
    offset: int


class Journal:
    """One folder, one writer (held by a lock file). Segments are `00000001.log` and up, oldest first."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._fd = -1
        self._current = folder / "none"
        self._size = 0
        self._worked = True  # the last write or fdatasync
        self._asked_at: float | None = None  # when the fdatasync under way was begun (monotonic)
        self._unsynced: list[bytes] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._flushing: tuple[list[asyncio.Future[None]], list[bytes]] = [], []  # what the one under way has of both
        self._flusher = Flusher("journal")
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._older = self.segments()
        self._number = int(self._older[-1].stem) if self._older else 0  # of the newest segment

    @property
    def healthy(self) -> bool:
        """Whether the last write or fdatasync worked, and none hangs."""
        return self._worked and not self._hangs

    @property
    def _hangs(self) -> bool:
        return self._asked_at is not None and time.monotonic() - self._asked_at > PATIENCE

    def segments(self) -> list[Path]:
        """All segments, oldest first."""
        return sorted(self.folder.glob("*.log"))

    @property
    def closed_segments(self) -> list[Path]:
        """The segments that are no longer written to."""
        return [segment for segment in self.segments() if segment != self._current]

    async def append(self, header: Header, blob: bytes = b"", *, last_resort: bool = False) -> Place:
        """Add a record and wait until it is on the disk. Raises OSError when no segment could take it.

        `last_resort`: there is no other store, so one that hangs is waited for.
        """
        if len(blob) > LARGE:
            return await self._append_alone(header, blob)
        (place,), synced = self.begin([(header, blob)], last_resort=last_resort)
        await synced
        return place

    def begin(
        self, records: Sequence[tuple[Header, bytes]], *, last_resort: bool = False
    ) -> tuple[Sequence[Place], asyncio.Future[None]]:
        """Add records; the future is done once they are on the disk. Raises OSError, and so may the future."""
        if self._hangs and not last_resort:
            raise OSError("an fdatasync hangs")
        places = self._write_all(records)
        return places, self._next_sync()

    async def _append_alone(self, header: Header, blob: bytes) -> Place:
        segment, handle = self._create()
        try:
            await asyncio.to_thread(_write_whole, handle, header, blob)
            await asyncio.to_thread(sync_folder, self.folder)
        except OSError:
            with suppress(OSError):
                segment.unlink()  # it may be what fills the disk
            raise
        return Place(segment, 0)

    def write(self, header: Header, blob: bytes = b"") -> Place:
        """Add a record that is on the disk only with the next `append` (a mark that may be lost without harm)."""
        return self._write_all([(header, blob)])[0]

    def _write_all(self, records: Sequence[tuple[Header, bytes]]) -> list[Place]:
        encoded, places = [encode(header, blob) for header, blob in records], []
        try:
            if self._fd < 0 or self._size >= self._segment_bytes:
                self._roll()
            at = self._size
            for record in encoded:
                places.append(Place(self._current, at))
                at += len(record)
            self._put(b"".join(encoded))
        except OSError:
            self._worked = False
            self._abandon()
            raise
        self._unsynced += encoded
        return places

    def replay(self) -> Iterator[tuple[Place, Header, bytes]]:
        """Every record that was here when this journal was opened, oldest first. A torn tail ends its segment."""
        for segment in self._older:
            yield from read_segment(segment)

    def read(self, place: Place) -> tuple[Header, bytes]:
        """The record at `place`."""
        with place.segment.open("rb") as stream:
            stream.seek(place.offset)
            _, header, blob = next(decode(stream))
        return header, blob

    async def close(self) -> None:
        """Finish what is under way and give the folder back."""
        if self._asked_at is not None:
            with suppress(OSError):  # told to whoever wrote it
                await self._next_sync()
        self._flusher.stop()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        os.close(self._lock)

    def _next_sync(self) -> asyncio.Future[None]:
        """The end of the fdatasync that takes all that is written: of one that begins now, or of the next."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        if self._asked_at is None:
            self._sync()
        return done

    def _sync(self) -> None:
        self._asked_at = time.monotonic()
        self._flushing = self._waiting, self._unsynced
        self._waiting, self._unsynced = [], []
        try:
            handle = os.dup(self._fd)  # closing the segment meanwhile cannot misdirect it
        except OSError as failure:
            self._synced(failure)
        else:
            self._flusher.flush(handle, self._synced)

    def _synced(self, failure: Exception | None) -> None:
        waiting, records = self._flushing
        error = self._rescue(records, failure) if failure else None
        self._worked, self._asked_at = error is None, None
        for done in waiting:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)
        if self._waiting:
            self._sync()

    def _rescue(self, records: list[bytes], failure: Exception) -> OSError | None:
        """Write into a new segment what the failed one may have lost; the error, if that fails too."""
        log.error("journal.segment_failed", segment=str(self._current), error=str(failure))
        self._abandon()
        later, self._unsynced = self._unsynced, [*records, *self._unsynced]
        try:
            self._roll()
            os.fdatasync(self._fd)
        except OSError as again:
            self._abandon()
            self._unsynced = later
            return again
        return None

    def _put(self, record: bytes) -> None:
        view = memoryview(record)
        while view:
            written = os.write(self._fd, view)
            view = view[written:]
        self._size += len(record)

    def _abandon(self) -> None:
        """Close the segment; one that took nothing goes, or a full disk would be given one by each try."""
        if self._fd < 0:
            return
        if os.fstat(self._fd).st_size == 0:
            with suppress(OSError):
                self._current.unlink()
        os.close(self._fd)
        self._fd = -1

    def _roll(self) -> None:
        """Open the next segment. Behind a failed one it begins with all that was not yet synced."""
        behind_failure = self._fd < 0
        if not behind_failure:
            os.fdatasync(self._fd)
            self._abandon()
        self._current, self._fd = self._create()
        self._size = 0
        sync_folder(self.folder)
        if behind_failure:
            self._put(b"".join(self._unsynced))

    def _create(self) -> tuple[Path, int]:
        """The next segment, and a handle to write to it."""
        self._number += 1
        segment = self.folder / f"{self._number:08d}.log"
        return segment, os.open(segment, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write_whole(handle: int, header: Header, blob: bytes) -> None:
    """Write one record, make it durable, and close the handle."""
    with open(handle, "wb", buffering=0) as stream:
        for part in (front(header, blob), blob):
            view = memoryview(part)
            while view:
                view = view[stream.write(view) :]
        os.fdatasync(handle)


def read_segment(segment: Path) -> Iterator[tuple[Place, Header, bytes]]:
    """The records of one segment up to its end, or to the first damaged one, which is logged."""
    with segment.open("rb") as stream:
        try:
            for offset, header, blob in decode(stream):
                yield Place(segment, offset), header, blob
        except Damaged as damage:
            log.warning("journal.tail_ignored", segment=str(segment), offset=damage.offset)


def sync_folder(folder: Path) -> None:
    """Make a created, renamed or removed name in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def own_journal(folder: Path, process: str) -> tuple[Journal, int]:
    """The first journal `<process>-<number>` that nobody writes to: of a new process, or of one that died."""
    for number in count(1):
        try:
            return Journal(folder / f"{process}-{number}"), number
        except BlockingIOError:
            continue
    raise AssertionError  # count never ends


def is_held(journal: Path) -> bool:
    """Whether a living process writes it."""
    try:
        handle = os.open(journal / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
