"""Looks ahead to what would run out: the disks of the journals and of the queue, and the queue's memory.

Below a floor nothing more is accepted, so that what was accepted can still be delivered: receipts, settlements and
the queue's own rewriting need room too. It is looked at beside the hot path, which only reads the last finding.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import Gauge
from redis.asyncio import Redis

from outbox.errors import Full
from runtime.connections import StoreError
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

BELOW = Gauge("nightmail_below_floor", "1 when nothing is accepted because of a floor", ["floor"])

_DISK_SECONDS = 0.25
_MEMORY_SECONDS = 0.5
_ROOM, _ROOM_SHARE = 256 * 1024 * 1024, 0.1  # octets, and share of what there is: with less in use, memory is plenty

ReadDisk = Callable[[Path], os.statvfs_result]


@dataclass(frozen=True, slots=True)
class DiskFloor:
    """The least free bytes and inodes of a disk, each absolute and as a share of the whole; the higher counts."""

    octets: int
    octets_share: float
    inodes: int
    inodes_share: float

    @classmethod
    def of(cls, settings: Settings) -> "DiskFloor":
        """As the settings say."""
        return cls(
            settings.disk_floor_bytes, settings.disk_floor_share, settings.inode_floor, settings.inode_floor_share
        )

    def lacking(self, disk: os.statvfs_result) -> str:
        """What there is too little of: `bytes`, `inodes`, or nothing. A disk that counts no inodes has enough."""
        if disk.f_bavail * disk.f_frsize < max(self.octets, self.octets_share * disk.f_blocks * disk.f_frsize):
            return "bytes"
        if disk.f_files and disk.f_favail < max(self.inodes, self.inodes_share * disk.f_files):
            return "inodes"
        return ""


def memory_share(info: Mapping[str, Any]) -> float:
    """How much of the memory that the queue may use for data is used (INFO memory); 0 where it has no limit."""
    most = int(info.get("maxmemory", 0))
    return memory_used(info) / most if most else 0.0


def memory_used(info: Mapping[str, Any]) -> int:
    """Octets that count against the limit."""
    return int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))


class Floors:
    """One per process that accepts. `run` keeps looking; `demand` refuses by what was found last."""

    def __init__(self, redis: Redis, settings: Settings, *, read_disk: ReadDisk = os.statvfs) -> None:
        self._redis = redis
        self._floor = DiskFloor.of(settings)
        self._memory_share = settings.queue_memory_share
        self._timeout = settings.redis_timeout.total_seconds()
        self._read_disk = read_disk
        # The embedded queue keeps its files in our folder; one of somebody else's minds its own disk.
        self._folders = {"journal": settings.data_dir / "journal", "queue": settings.data_dir / "valkey"}
        if settings.blobs and "://" not in settings.blobs:
            self._folders["large contents"] = Path(settings.blobs)
        self._lacking: dict[str, str] = {}
        self._has_room = False

    @property
    def lacking(self) -> str:
        """What is below its floor, for a log line or a test; '' when nothing is."""
        return ", ".join(f"{name}: {what}" for name, what in sorted(self._lacking.items()))

    def demand(self) -> None:
        """Return if there is room; raises Full."""
        if self._lacking:
            raise Full(self.lacking)

    def has_room(self) -> bool:
        """Whether the queue holds so little that its memory need not be saved."""
        return self._has_room

    async def run(self) -> None:
        """For ever."""
        disks = [self._every(_DISK_SECONDS, partial(self._look_at, *disk)) for disk in self._folders.items()]
        await asyncio.gather(*disks, self._every(_MEMORY_SECONDS, self.ask))

    async def look_at_disks(self) -> None:
        """A first look at all disks. A sick one may not answer: it is left after a second."""
        await asyncio.wait([asyncio.create_task(self._look_at(*disk)) for disk in self._folders.items()], timeout=1)

    async def _look_at(self, name: str, folder: Path) -> None:
        """In a thread. While a disk does not answer the last finding about it stands."""
        self._note(f"disk of the {name}", await asyncio.to_thread(self._look, folder))

    async def ask(self) -> None:
        """Ask the queue for its memory. One that does not answer is the breaker's affair, not a full one."""
        try:
            async with asyncio.timeout(self._timeout):
                info = await self._redis.info("memory")
        except StoreError:
            info = {}
        share = memory_share(info)
        self._has_room = bool(info) and memory_used(info) < _ROOM and share < _ROOM_SHARE
        is_full = self._memory_share < 1 and share >= self._memory_share
        self._note("memory of the queue", f"{share:.0%} used" if is_full else "")

    def _look(self, folder: Path) -> str:
        try:
            return self._floor.lacking(self._read_disk(folder))
        except FileNotFoundError:
            return ""
        except OSError as failure:
            log.warning("floor.cannot_look", folder=str(folder), error=str(failure))
            return ""

    def _note(self, name: str, lacking: str) -> None:
        before = self._lacking.get(name, "")
        if lacking:
            self._lacking[name] = lacking
        else:
            self._lacking.pop(name, None)
        if bool(lacking) is not bool(before):
            BELOW.labels(name).set(bool(lacking))
            log.error("floor.reached", of=name, lacking=lacking) if lacking else log.info("floor.left", of=name)

    async def _every(self, seconds: float, look: Callable[[], Any]) -> None:
        while True:
            await look()
            await asyncio.sleep(seconds)
