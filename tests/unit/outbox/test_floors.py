"""The arithmetic of floors."""

from types import SimpleNamespace

import pytest

from outbox.floors import DiskFloor, Floors, memory_share
from runtime.settings import Settings


def disk(*, free=50, free_inodes=50, inodes=100):
    """A disk of 100 blocks of 1,000 bytes."""
    return SimpleNamespace(f_blocks=100, f_bavail=free, f_frsize=1000, f_files=inodes, f_favail=free_inodes)


@pytest.mark.parametrize(
    ("floor", "found", "lacking"),
    [
        (DiskFloor(0, 0, 0, 0), disk(free=0, free_inodes=0), ""),  # no floor
        (DiskFloor(10_000, 0, 0, 0), disk(free=10), ""),  # just enough
        (DiskFloor(10_000, 0, 0, 0), disk(free=9), "bytes"),
        (DiskFloor(0, 0.2, 0, 0), disk(free=19), "bytes"),
        (DiskFloor(10_000, 0.2, 0, 0), disk(free=15), "bytes"),  # the higher of both counts
        (DiskFloor(0, 0, 10, 0), disk(free_inodes=9), "inodes"),
        (DiskFloor(0, 0, 0, 0.2), disk(free_inodes=19), "inodes"),
        (DiskFloor(0, 0, 10, 0.2), disk(free_inodes=0, inodes=0), ""),  # a file system that counts none
        (DiskFloor(10_000, 0, 10, 0), disk(free=1, free_inodes=1), "bytes"),
    ],
)
def test_what_a_disk_lacks(floor, found, lacking):
    """A floor is absolute or a share, and the higher one counts."""
    assert floor.lacking(found) == lacking


@pytest.mark.parametrize(
    ("info", "share"),
    [
        ({"used_memory": 800, "maxmemory": 1000}, 0.8),
        ({"used_memory": 900, "maxmemory": 1000, "mem_not_counted_for_evict": 100}, 0.8),  # as the server itself counts
        ({"used_memory": 900, "maxmemory": 0}, 0.0),  # no limit
        ({}, 0.0),
    ],
)
def test_how_full_the_queue_is(info, share):
    """What counts is what the server holds against maxmemory."""
    assert memory_share(info) == share


@pytest.mark.parametrize(
    ("info", "has_room"),
    [
        ({"used_memory": 200_000_000, "maxmemory": 0}, True),
        ({"used_memory": 300_000_000, "maxmemory": 0}, False),
        ({"used_memory": 9_000_000, "maxmemory": 100_000_000}, True),
        ({"used_memory": 11_000_000, "maxmemory": 100_000_000}, False),
    ],
)
async def test_the_queue_has_room_while_it_holds_little(info, has_room):
    """Little by itself, and of what it may hold."""
    floors = Floors(Memory(info), Settings())
    assert not floors.has_room(), "nobody has looked"
    await floors.ask()
    assert floors.has_room() is has_room


async def test_a_queue_that_does_not_answer_has_no_room():
    """What it holds is not known."""
    memory = Memory({"used_memory": 1_000_000})
    floors = Floors(memory, Settings())
    await floors.ask()
    memory.is_away = True
    await floors.ask()
    assert not floors.has_room()
    assert not floors.lacking


class Memory:
    """A queue that tells of its memory."""

    def __init__(self, info):
        self._info = info
        self.is_away = False

    async def info(self, _):
        if self.is_away:
            raise ConnectionError("away")
        return self._info
