"""Moves closed events with the contents of their messages out of the queue into the archive: a chore, no database.

Nothing leaves the queue before the store gave back what was written: the stream is trimmed, and contents and ended
messages go, only behind that. Unless they become many, or memory scarce, nothing goes in the first half minute: who is
busy, with mail or with a database that is away, goes first.
"""

import sys
from contextlib import closing, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from redis import Redis
from redis.exceptions import LockError

from outbox.archive import Archive, Segment
from outbox.blobs import Blobs
from outbox.errors import BlobLost, ObjectsUnavailable
from outbox.events import Event
from outbox.floors import memory_share
from outbox.generation import Memory
from outbox.message import Message
from outbox.retire import compact
from outbox.stream import Progress
from outbox.tail import Tail, weight_of
from runtime.clock import from_ms
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_SEGMENT_EVENTS = 5_000
_SEGMENT_BYTES = 8 * 1024 * 1024  # of content: contents lie in the queue's memory until they are archived
_IN_STEP = 20_000  # events that a recorder may be behind, and the archive still waits for it
_SILENT = timedelta(seconds=5)  # since the recorder's last word, after which nobody waits for it
_LONGEST_OPEN = timedelta(seconds=30)  # events this old are archived even if they are few
# Full segments are archived at once while more events than that wait, or that share of the queue's memory is used.
_MOST_OPEN = 50_000
_LITTLE_ROOM = 0.4
_TURN = 60.0  # seconds after which another machine may take the turn of one that died in it


def archive_once(redis: Redis, settings: Settings, *, now: datetime) -> int:
    """Archive what the stream holds beyond the archive, if it is enough or old enough; how many events that were.

    0 while another machine is at it: two would write segments that overlap. Raises QueueLost.
    """
    Memory(settings).require(redis)
    turn = redis.lock(f"{{{settings.queue_prefix}}}:archiving", timeout=_TURN, blocking=False)
    if not turn.acquire():
        return 0
    try:
        return _Archiving(redis, settings).run(now)
    except ObjectsUnavailable as failure:
        log.error("archive.unavailable", error=str(failure))
        return 0
    finally:
        with suppress(LockError):  # it took so long that somebody else has the turn
            turn.release()


class _Archiving:
    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._tail = Tail(redis, settings.queue_prefix, read_blob=partial(_blob, Blobs(settings)))
        self._archive = Archive.open(settings)
        self._progress = Progress(redis, settings)

    def run(self, now: datetime) -> int:
        """One segment; how many events are in it."""
        archived = self._vouch(self._tail.archived())
        if not self._is_time(archived, now):
            return 0
        events = self._tail.run(archived, min(_SEGMENT_EVENTS, self._needless(now) - archived))
        if not (_is_old(events, now) or _is_much(events)):
            return 0
        if not events[0].follows(archived):
            log.error("archive.gap", expected=archived + 1, found=events[0].number)
        segment = self._archive.write(self._tail.complete(events))
        log.info("archive.segment_closed", segment=segment.name, events=len(events))
        self._give_back(segment.last)
        return len(events)

    def _is_time(self, archived: int, now: datetime) -> bool:
        """Whether the memory that lies behind the archive is much, or wanted, or has been used for long enough."""
        if self._tail.newest() - archived >= _MOST_OPEN or _is_old(self._tail.events(archived, 1), now):
            return True
        info: Any = self._redis.info("memory")
        return memory_share(info) >= _LITTLE_ROOM

    def _needless(self, now: datetime) -> int:
        """The last event that a recorder in step has: it soon reads the next ones, at less cost from the queue."""
        recorder = self._progress.read()
        awake = recorder.state == "ok" and recorder.at is not None and abs(now - recorder.at) < _SILENT
        near = awake and self._tail.newest() - recorder.checkpoint < _IN_STEP
        return recorder.checkpoint if near else sys.maxsize

    def _vouch(self, archived: int) -> int:
        """How far the archive reaches: past what was written by who did not live, or failed, to read it back."""
        for segment in self._archive.later(archived):
            if not self._archive.is_whole(segment):
                self._write_again(segment)
            self._give_back(segment.last)
            archived = segment.last
        return archived

    def _write_again(self, damaged: Segment) -> None:
        """From the stream, which holds all that nobody has vouched for. Raises ObjectsUnavailable when it does not."""
        events = self._tail.read(damaged.first - 1, damaged.last - damaged.first + 1)
        events = [each for each in events if each.event.number <= damaged.last]
        if not events or (events[0].event.number, events[-1].event.number) != (damaged.first, damaged.last):
            raise ObjectsUnavailable(f"{damaged.name} is damaged, and its events are gone from the queue")
        log.warning("archive.segment_written_again", segment=damaged.name)
        if self._archive.write(events).name != damaged.name:
            self._archive.store.delete(damaged.name)

    def _give_back(self, archived: int) -> None:
        """Memory, of what is archived."""
        self._tail.trim(archived=archived, keep=self._settings.stream_keep)
        compact(self._redis, self._settings)


def _blob(blobs: Blobs, message: Message) -> bytes | None:
    """A large content, as the archive keeps it; None, with an alarm, when no store and no journal here has it."""
    try:
        with closing(blobs.open(message)) as blob:
            return blob.read()
    except BlobLost:
        return None


def _is_old(events: list[Event], now: datetime) -> bool:
    """Whether the first has been open for as long as one may be."""
    return bool(events) and now - from_ms(events[0].fields["at"]) >= _LONGEST_OPEN


def _is_much(events: list[Event]) -> bool:
    """Whether they are enough for a segment, or heavy enough."""
    return len(events) >= _SEGMENT_EVENTS or sum(map(weight_of, events)) >= _SEGMENT_BYTES
