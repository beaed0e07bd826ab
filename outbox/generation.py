"""Whether the queue still is the one that this machine fed: its mark and its event number, remembered on this disk.

A queue that was emptied has no mark or another one; one restored from an old file has the mark and too low a number.
Every script is told what is remembered and refuses to run in such a queue (lua/_prelude.lua), so no process can deliver
from it, or put mail where nobody would look, before `nightmail rebuild queue` has filled it again.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any
from uuid import uuid4

import orjson
from prometheus_client import Gauge
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from outbox.errors import ObjectsUnavailable, QueueLost
from outbox.journal import read_segment, sync_folder
from outbox.object_store import open_archive_store
from runtime.connections import StoreError
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

REFUSING = Gauge("nightmail_process_refuses_queue", "1 while this process leaves alone a queue that lost its memory")

WATCH = 0.5  # seconds between two looks
REBUILDING = "rebuilding-"  # begins the mark of a queue that is being filled; nobody remembers such a mark
_NEVER_SEEN = "none"  # remembered where a past is found and its mark is not: no queue has it
_UNSURE = "unsure"  # the same while the archive does not answer: the next look asks again


@dataclass(frozen=True, slots=True)
class Remembered:
    """What this machine knows of the queue: its mark, an event number it has reached, and how far it was archived."""

    mark: str
    number: int = 0
    archived: int = 0


@dataclass(frozen=True, slots=True)
class Sight:
    """What the queue shows: its mark (empty: none), its newest event number, and how far it says it is archived."""

    mark: str
    number: int
    archived: int

    @classmethod
    def of(cls, reply: list[Any]) -> "Sight":
        """From the values of `Memory.keys`."""
        mark, number, archived = reply
        return cls((mark or b"").decode(), int(number or 0), int(archived or 0))


class Memory:
    """One machine's memory of one queue, in a file that all its processes share."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.data_dir / "queue"
        self._file = self._folder / f"{settings.queue_prefix}.json"
        self._path = str(self._file)
        self._prefix = f"{{{settings.queue_prefix}}}"
        self._read_at: tuple[int, int] | None = None  # inode and time of change of what was read
        self._remembered: Remembered | None = None
        self.found_lost = False  # at the last look
        self.keys = [f"{self._prefix}:{name}" for name in ("generation", "seq", "archived")]

    @property
    def remembered(self) -> Remembered | None:
        """What is remembered; None before the first look of this machine's life that found out."""
        written = self._read()
        return None if written is None or written.mark == _UNSURE else written

    def _read(self) -> Remembered | None:
        """What is written. A stat, where nothing changed."""
        try:
            status = os.stat(self._path)  # noqa: PTH116  (a Path takes longer than the system does)
            if self._read_at != (status.st_ino, status.st_mtime_ns):
                with self._file.open("rb", buffering=0) as stream:  # a third of the system calls of `read_bytes`
                    self._remembered = Remembered(**orjson.loads(stream.read()))
                self._read_at = (status.st_ino, status.st_mtime_ns)
        except FileNotFoundError:
            self._remembered = None
        except (OSError, ValueError, TypeError) as failure:  # what was read last holds on
            log.error("queue.memory_unreadable", path=str(self._file), error=str(failure)[:100])
        return self._remembered

    @property
    def fence(self) -> str | None:
        """KEYS[2] of every script: the mark and the number that the queue must show. None: nobody has looked yet."""
        known = self._read()
        return f"{self._prefix}:mark:{known.mark}:{known.number}" if known else None

    @property
    def script_keys(self) -> list[str | int]:
        """The number of a script's keys, and the keys."""
        fence = self.fence
        return [1, self._prefix] if fence is None else [2, self._prefix, fence]

    def is_lost(self, sight: Sight) -> bool:
        """Whether this is not the queue that is remembered."""
        known = self.remembered
        return known is not None and (sight.mark != known.mark or sight.number < known.number)

    def require(self, redis: BlockingRedis) -> None:
        """Return if the queue has its memory; raises QueueLost. For chores, which move more than a script does."""
        reply: Any = redis.mget(self.keys)
        if self.is_lost(Sight.of(reply)):
            raise QueueLost("nightmail rebuild queue")

    def remember(self, sight: Remembered) -> None:
        """Keep it, in place of all that was known before."""
        with self._held():
            self._write(sight)

    def advance(self, sight: Sight) -> None:
        """Keep the newer numbers of the queue that is remembered; of another queue nothing."""
        with self._held():
            known = self.remembered
            if known is None or known.mark != sight.mark or sight.number <= known.number:
                return
            newer = replace(known, number=sight.number, archived=max(known.archived, sight.archived))
            self._write(newer, durably=False)  # a power cut may take it back to what was known some seconds before

    async def look(self, redis: Redis) -> bool:
        """Whether the queue has its memory. The first look of a new stack gives it its mark. Raises StoreError."""
        before = self.remembered  # read first: the queue must show at least this
        sight = Sight.of(await redis.mget(self.keys))
        if before is None:
            before = await self._first(redis, sight)
            sight = Sight.of(await redis.mget(self.keys))
        well = sight.mark == before.mark and sight.number >= before.number
        self._tell(well=well, sight=sight)
        if well and sight.number > before.number:
            await asyncio.to_thread(self.advance, sight)
        return well

    async def watch(self, redis: Redis) -> None:
        """Look for ever."""
        task = asyncio.current_task()
        while not (task and task.cancelling()):  # a client that is just connecting may swallow a cancellation
            with suppress(*StoreError):  # away is not lost
                await self.look(redis)
            await asyncio.sleep(WATCH)

    async def _first(self, redis: Redis, sight: Sight) -> Remembered:
        """Nothing is remembered: a new stack, a new machine of an old one, or a machine that forgot."""
        if not sight.mark:
            with self._held():
                if self.remembered is None:
                    self._write(Remembered(_UNSURE))  # nothing is done in it while the archive is asked
        if not sight.mark and (past := await asyncio.to_thread(self._past)):
            first = Remembered(past)
        else:
            await redis.set(self.keys[0], str(uuid4()), nx=True)
            sight = Sight.of(await redis.mget(self.keys))
            first = Remembered(_NEVER_SEEN if sight.mark.startswith(REBUILDING) else sight.mark, sight.number)
        with self._held():
            if self.remembered is None and self._read() != first:
                self._write(first)
        return self.remembered or first

    def _past(self) -> str:
        """The mark to remember where an empty queue is not a new one; empty where it is."""
        try:
            return _NEVER_SEEN if has_past(self._settings) else ""
        except ObjectsUnavailable as failure:
            log.warning("queue.past_unknown", error=str(failure)[:200])
            return _UNSURE

    def _tell(self, *, well: bool, sight: Sight) -> None:
        was_lost, self.found_lost = self.found_lost, not well
        REFUSING.set(not well)
        if not well and not was_lost:
            known = self.remembered
            log.error(
                "queue.lost_its_memory",
                mark=sight.mark,
                number=sight.number,
                remembered=known.number if known else 0,
                mend="nightmail rebuild queue",
            )
        elif well and was_lost:
            log.info("queue.has_its_memory")

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile."""
        self._folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _write(self, known: Remembered, *, durably: bool = True) -> None:
        fresh = self._file.with_suffix(f".{os.getpid()}")
        fields = {"mark": known.mark, "number": known.number, "archived": known.archived}
        with fresh.open("wb") as stream:
            stream.write(orjson.dumps(fields))
            stream.flush()
            if durably:
                os.fsync(stream.fileno())
        fresh.replace(self._file)
        if durably:
            sync_folder(self._folder)


def has_past(settings: Settings) -> bool:
    """Whether some queue has held mail: then an empty one is not a new one. Raises ObjectsUnavailable.

    The archive tells it to a machine that is new itself. Accepts that no queue confirmed prove nothing: the queue may
    be late at the first start of all.
    """
    journals = sorted((settings.data_dir / "journal").glob("*/*.log"))
    if any(_knew_a_queue(header) for _, header, _ in chain.from_iterable(map(read_segment, journals))):
        return True
    return any(name.startswith("events-") for name in open_archive_store(settings).names())


def _knew_a_queue(header: dict[str, Any]) -> bool:
    if header["kind"] == "accepted":
        return bool(header["confirmed"])
    return header["kind"] in {"confirmed", "receipt", "begun", "cancelled", "rescheduled"}
