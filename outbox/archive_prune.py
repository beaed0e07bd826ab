"""Deletes archived segments that are older than the retention and that the history has: a part of the archive chore.

A history without a backup can be rebuilt only as far back as the archive reaches, so the retention is longer than the
age of the oldest backup. The newest segment always stays: it tells how far the archive reaches. So does what tells of
mail that still waits, held or scheduled: a queue that lost its memory has it back from here.
"""

import sys
from datetime import datetime
from typing import cast

from redis import Redis

from outbox.archive import Archive
from outbox.errors import ObjectsUnavailable
from outbox.stream import Progress
from runtime.clock import to_ms
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_EVERY_SECONDS = 3600
_AT_ONCE = 500
_IN_STEP = ("ok", "rebuilding")  # of the recorder


def prune_archive(redis: Redis, settings: Settings, *, now: datetime) -> int:
    """Delete what may go, at most once an hour over all machines; how many segments that were."""
    if not redis.set(f"{{{settings.queue_prefix}}}:archive_pruned", "1", nx=True, ex=_EVERY_SECONDS):
        return 0
    recorder = Progress(redis, settings).read()
    if recorder.state not in _IN_STEP:
        return 0  # a person may yet put back a database that needs them
    before = now - settings.archive_retention
    needed = _oldest_live(redis, settings, to_ms(before))
    try:
        return _prune(Archive.open(settings), min(recorder.checkpoint, needed - 1), before)
    except ObjectsUnavailable as failure:
        log.warning("archive.prune_put_off", error=str(failure))
        return 0


def _oldest_live(redis: Redis, settings: Settings, before: int) -> int:
    """The smallest number of an event that accepted a message which is in the queue and older than `before` (ms)."""
    prefix, oldest, start = f"{{{settings.queue_prefix}}}", sys.maxsize, 0
    while ids := cast("list[bytes]", redis.zrangebyscore(f"{prefix}:index", "-inf", before, start=start, num=_AT_ONCE)):
        pipe = redis.pipeline(transaction=False)
        for message_id in ids:
            pipe.hget(f"{prefix}:m:{message_id.decode()}", "first")
        oldest = min(oldest, *(int(first or sys.maxsize) for first in pipe.execute()))
        start += len(ids)
    return oldest


def _prune(archive: Archive, needless: int, before: datetime) -> int:
    """From the oldest on, up to the first that is too young or reaches beyond the event `needless`."""
    gone = 0
    for segment in archive.segments()[:-1]:
        written_at = archive.store.written_at(segment.name)
        if segment.last > needless or (written_at and written_at > before):
            break
        archive.store.delete(segment.name)
        gone += 1
    if gone:
        log.info("archive.pruned", segments=gone)
    return gone
