"""Deletes large contents that nothing needs any more: a part of the archive chore, no database.

The queue says what is needed. A message that it compacted has ended, and the archive has its content. One that it does
not know may be on its way: an accept between its content and its queue entry, or between two tries of the re-injector,
which writes the content anew each time. So what nobody knows is deleted when it is a day old.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import orjson
from redis import Redis

from outbox.blobs import Blobs, parse_name
from outbox.errors import ObjectsUnavailable
from outbox.generation import Memory, Sight
from outbox.recall import BRIEF
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_EVERY_SECONDS = 60
_ORPHANED = timedelta(days=1)
_AT_ONCE = 200


def sweep_blobs(redis: Redis, settings: Settings, *, now: datetime) -> int:
    """Delete what may go, at most once a minute over all machines; how many contents that were."""
    blobs, prefix = Blobs(settings), f"{{{settings.queue_prefix}}}"
    if not blobs.enabled or not redis.set(f"{prefix}:blobs_swept", "1", nx=True, ex=_EVERY_SECONDS):
        return 0
    try:
        gone = list(_unneeded(redis, Memory(settings), blobs, prefix, before=now - _ORPHANED))
        for name in gone:
            blobs.store.delete(name)
    except ObjectsUnavailable as failure:
        log.warning("blobs.sweep_put_off", error=str(failure))
        return 0
    if gone:
        log.info("blobs.swept", blobs=len(gone))
    return len(gone)


def _unneeded(redis: Redis, memory: Memory, blobs: Blobs, prefix: str, *, before: datetime) -> Iterator[str]:
    every = blobs.store.names()
    while names := list(islice(every, _AT_ONCE)):
        pipe = redis.pipeline(transaction=False)
        for name in names:
            pipe.hmget(f"{prefix}:m:{parse_name(name)[0]}", ["meta", BRIEF])
        pipe.mget(memory.keys)
        *known, sight = pipe.execute()
        # A queue that lost its memory knows nothing and proves nothing: what waits for a rebuild stays.
        is_trusted = memory.remembered is not None and not memory.is_lost(Sight.of(sight))
        for name, (meta, brief) in zip(names, known, strict=True):
            if brief or (is_trusted and not _needs(meta, name) and _is_older(blobs, name, before)):
                yield name


def _needs(meta: Any, name: str) -> bool:
    return meta is not None and orjson.loads(meta).get("blob") == parse_name(name)[1]


def _is_older(blobs: Blobs, name: str, before: datetime) -> bool:
    written_at = blobs.store.written_at(name)
    return written_at is not None and written_at < before
