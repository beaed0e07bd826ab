"""What disks know of the suppression list, for a rebuild of the queue; and the copy of the list that makes it whole.

Events tell changes, but the archive forgets old ones, so the chores keep a copy of the list beside it. Manual changes
stand in the journal of the process that made them, until the archive has them.
"""

import gzip
import hashlib
from datetime import datetime
from typing import Any

import orjson
from redis import Redis

from outbox.errors import ObjectsUnavailable
from outbox.events import policy_changed
from outbox.object_store import Store, open_archive_store
from outbox.suppression import KIND
from runtime.clock import from_ms
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_NAME = "suppressions-"
_AT_ONCE = 1000

Value = dict[str, Any] | None  # None: taken off the list


class SuppressionFacts:
    """The newest that is known of each address, and the newest that standing events tell."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Value]] = {}
        self._told: dict[str, tuple[int, Value]] = {}

    def note(self, address: str, at: int, value: Value, *, told: bool) -> None:
        """`value` since `at` (ms). `told`: by an event that stands, or before all of them."""
        for facts in (self._known, self._told) if told else (self._known,):
            if address not in facts or facts[address][0] <= at:
                facts[address] = (at, value)

    def note_copy(self, store: Store) -> None:
        """The newest good copy of the list. Raises ObjectsUnavailable."""
        for name in sorted(store.names(_NAME), reverse=True):
            octets = store.get(name) if name.startswith(_NAME) else None
            if octets is not None and _digest(octets) in name:
                for address, value in orjson.loads(gzip.decompress(octets)).items():
                    self.note(address, 0, value, told=True)
                return

    def note_queue(self, redis: Redis, prefix: str) -> None:
        """What an old queue still has: better than nothing."""
        for address, value in redis.hscan_iter(f"{{{prefix}}}:suppressed", count=_AT_ONCE):
            self.note(address.decode(), -1, orjson.loads(value), told=True)

    def restore(self, pipe: Any, prefix: str, *, number: int) -> list[bytes]:
        """Put the list in place, as of event `number`, to be copied soon; the events of what no event tells."""
        pipe.set(f"{{{prefix}}}:suppressedlast", number)
        pipe.delete(f"{{{prefix}}}:suppressed", f"{{{prefix}}}:suppressions")
        for address, (_, value) in self._known.items():
            if value is not None:
                pipe.hset(f"{{{prefix}}}:suppressed", address, orjson.dumps(value))
                pipe.zadd(f"{{{prefix}}}:suppressions", {f"{value['id']}:{address}": 0})
        untold = [(a, at, value) for a, (at, value) in self._known.items() if self._told.get(a, (0, None))[1] != value]
        return [_again(policy_changed(KIND, address, value, at=from_ms(at))) for address, at, value in untold]


def keep_copy(redis: Redis, settings: Settings, *, now: datetime) -> bool:
    """Write the list beside the archive, if it changed since the last time. Whether it did."""
    prefix = f"{{{settings.queue_prefix}}}"
    numbers: Any = redis.mget(f"{prefix}:suppressedlast", f"{prefix}:suppressedkept")
    last, kept = (int(each or 0) for each in numbers)
    if last <= kept:
        return False
    found = {a.decode(): orjson.loads(v) for a, v in redis.hscan_iter(f"{prefix}:suppressed", count=_AT_ONCE)}
    octets = gzip.compress(orjson.dumps(found), mtime=0)
    name = f"{_NAME}{last:012d}-{_digest(octets)}.gz"
    try:
        store = open_archive_store(settings)
        store.put(name, octets)
        for older in [each for each in store.names(_NAME) if each.startswith(_NAME) and each < name]:
            store.delete(older)
    except ObjectsUnavailable as failure:
        log.warning("suppressions.copy_put_off", error=str(failure))
        return False
    redis.set(f"{prefix}:suppressedkept", last)
    log.info("suppressions.copied", addresses=len(found), at=now.isoformat())
    return True


def _digest(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()[:16]


def _again(event: bytes) -> bytes:
    return orjson.dumps(orjson.loads(event) | {"restored": True})
