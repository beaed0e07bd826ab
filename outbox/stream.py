"""All events there ever were, in order: from the tail in the queue, and from the archive where the tail is cut."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from redis import Redis

from outbox.archive import Archive
from outbox.blobs import Blobs
from outbox.errors import Gap, ObjectsUnavailable
from outbox.tail import Recorded, Tail, is_large
from runtime import clock
from runtime.clock import from_ms, to_ms
from runtime.settings import Settings

__all__ = ["EventSource", "Progress", "ProgressView", "Recorded"]


class EventSource:
    """What the recorder reads; for blocking code."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._tail = Tail(redis, settings.queue_prefix, read_blob=Blobs(settings).read)
        self._archive = Archive.open(settings)

    def newest(self) -> int:
        """The number of the newest event."""
        return self._tail.newest()

    def wait(self, after: int, seconds: float) -> None:
        """Return when there is an event newer than `after`, or after `seconds`."""
        self._tail.wait(after, seconds)

    def read(self, after: int, limit: int, *, contents: bool = True) -> list[Recorded]:
        """Up to `limit` events from `after` + 1 on, each with its content; none when there is nothing newer.

        Without `contents` some may come without theirs, for less work.

        Raises Gap when event `after` + 1 should exist and is nowhere, or the queue knows fewer events than `after`:
        then one of the two stores lost its memory, and nobody may guess.
        """
        newest = self.newest()  # asked first: what exists now must be found below
        events = self._tail.read(after, limit, contents=contents)
        if events and events[0].event.follows(after):
            if not contents:
                return events
            return [self._complete(recorded) for recorded in events]
        if not events and newest == after:
            return []
        archived = self._archive.read(after, limit)
        if archived:
            return archived
        if events:
            raise Gap(after + 1, events[0].event.number)
        if newest != after:
            raise Gap(after + 1)
        return []

    def _complete(self, recorded: Recorded) -> Recorded:
        """A content that left the queue before it was recorded lies in the archive.

        Raises ObjectsUnavailable where a large one cannot be read here: within half a minute the archive has it.
        """
        if recorded.event.kind != "accepted" or recorded.packed is not None:
            return recorded
        kept = self._archive.read(recorded.event.number - 1, 1)
        if not kept and is_large(recorded.event):
            raise ObjectsUnavailable(f"the content of event {recorded.event.number} cannot be read here yet")
        return kept[0] if kept else recorded


@dataclass(frozen=True, slots=True)
class ProgressView:
    """How far the recorder is: the number it has recorded, its state, its last error, and when it said so."""

    checkpoint: int
    state: str
    error: str
    at: datetime | None


class Progress:
    """The recorder's word on itself, kept in the queue where the backlog reads it."""

    def __init__(self, redis: Redis, settings: Settings, *, now: Callable[[], datetime] = clock.now) -> None:
        self._redis = redis
        self._key = f"{{{settings.queue_prefix}}}:recorder"
        self._now = now

    def publish(self, checkpoint: int, state: str, error: str = "") -> None:
        """Say where the recorder is. `state` is ok, waiting, rebuilding, gap or foreign."""
        fields: dict[str | bytes, str | int] = {
            "checkpoint": checkpoint,
            "state": state,
            "error": error,
            "at": to_ms(self._now()),
        }
        cast("Any", self._redis).hset(self._key, mapping=fields)

    def read(self) -> ProgressView:
        """The last word."""
        fields: Any = self._redis.hgetall(self._key)
        return read_progress(fields)


def read_progress(fields: dict[bytes, bytes]) -> ProgressView:
    """From the hash in the queue."""
    at = fields.get(b"at")
    return ProgressView(
        checkpoint=int(fields.get(b"checkpoint", 0)),
        state=fields.get(b"state", b"unknown").decode(),
        error=fields.get(b"error", b"").decode(),
        at=from_ms(at) if at else None,
    )
