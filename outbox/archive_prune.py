"""Deletes archived segments that are older than the retention and that the history has: a part of the archive chore.

A history without a backup can be rebuilt only as far back as the archive reaches, so the retention is longer than the
age of the oldest backup. The newest segment always stays: it tells how far the archive reaches.
"""

from datetime import datetime

from redis import Redis

from outbox.archive import Archive
from outbox.errors import ObjectsUnavailable
from outbox.stream import Progress
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_EVERY_SECONDS = 3600


def prune_archive(redis: Redis, settings: Settings, *, now: datetime) -> int:
    """Delete what may go, at most once an hour over all machines; how many segments that were."""
    if not redis.set(f"{{{settings.queue_prefix}}}:archive_pruned", "1", nx=True, ex=_EVERY_SECONDS):
        return 0
    try:
        return _prune(
            Archive.open(settings), Progress(redis, settings).read().checkpoint, now - settings.archive_retention
        )
    except ObjectsUnavailable as failure:
        log.warning("archive.prune_put_off", error=str(failure))
        return 0


def _prune(archive: Archive, recorded: int, before: datetime) -> int:
    """From the oldest on, up to the first that is too young or not yet recorded."""
    gone = 0
    for segment in archive.segments()[:-1]:
        written_at = archive.store.written_at(segment.name)
        if segment.last > recorded or (written_at and written_at > before):
            break
        archive.store.delete(segment.name)
        gone += 1
    if gone:
        log.info("archive.pruned", segments=gone)
    return gone
