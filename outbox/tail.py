"""The tail of the events: what the stream in the queue still holds, with the contents of accepted messages."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import orjson
from redis import Redis

from outbox.events import Event
from outbox.message import Message
from outbox.packing import unpacked, unshrunk

_MOST_BYTES = 16 * 1024 * 1024  # of content in one reading
_EVENTS_AT_ONCE, _CONTENTS_AT_ONCE = 500, 50  # of one call: everybody else waits for it

ReadBlob = Callable[[Message], bytes | None]


class Recorded(NamedTuple):
    """An event, and with `accepted` the content of its message as the queue keeps it, unless it is gone there."""

    event: Event
    packed: bytes | None

    @property
    def content(self) -> bytes | None:
        """The content itself. Raises ValueError for what is damaged."""
        return unpacked(self.packed)


class Tail:
    """Reads the stream; for blocking code."""

    def __init__(self, redis: Redis, prefix: str, *, read_blob: ReadBlob = lambda _: None) -> None:
        self._redis = redis
        self._read_blob = read_blob
        self._prefix = f"{{{prefix}}}"
        self._stream = f"{self._prefix}:events"

    def newest(self) -> int:
        """The number of the newest event, 0 when there never was one."""
        newest: Any = self._redis.get(f"{self._prefix}:seq")
        return int(newest or 0)

    def archived(self) -> int:
        """The number up to which events are archived."""
        archived: Any = self._redis.get(f"{self._prefix}:archived")
        return int(archived or 0)

    def read(self, after: int, limit: int, *, contents: bool = True) -> list[Recorded]:
        """What `run` finds, complete if `contents`."""
        events = self.run(after, limit)
        return self.complete(events) if contents else [Recorded(event, None) for event in events]

    def run(self, after: int, limit: int) -> list[Event]:
        """Consecutive events from the first that is newer than `after`: up to `limit`, or to a hole, or 16 MB."""
        return _run(self.events(after, limit))

    def complete(self, events: list[Event]) -> list[Recorded]:
        """The events with their contents."""
        found = self._contents([event for event in events if event.kind == "accepted"])
        return [Recorded(event, found.get(event.number)) for event in events]

    def events(self, after: int, limit: int) -> list[Event]:
        """Up to `limit` events newer than `after`, holes or not, without contents."""
        events: list[Event] = []
        while len(events) < limit:
            after = events[-1].number if events else after
            count = min(_EVENTS_AT_ONCE, limit - len(events))
            entries: Any = self._redis.xrange(self._stream, min=f"{after + 1}-0", count=count)
            events += [Event(int(number.partition(b"-")[0]), orjson.loads(entry[b"e"])) for number, entry in entries]
            if len(entries) < count:
                break
        return events

    def wait(self, after: int, seconds: float) -> None:
        """Return when there is an event newer than `after`, or after `seconds`."""
        self._redis.xread({self._stream: f"{after}-0"}, count=1, block=max(1, int(seconds * 1000)))

    def trim(self, *, archived: int, keep: int) -> None:
        """Note how far the archive reaches, and drop from the stream what lies `keep` events behind that."""
        archived = max(archived, self.archived())  # another machine was quicker
        pipe = self._redis.pipeline(transaction=True)
        pipe.set(f"{self._prefix}:archived", archived)
        pipe.xtrim(self._stream, minid=f"{max(archived - keep, 0) + 1}-0", approximate=True)
        pipe.execute()

    def _contents(self, accepted: list[Event]) -> dict[int, bytes]:
        if not accepted:
            return {}
        keys = [f"{self._prefix}:c:{event.fields['id']}" for event in accepted]
        octets: list[Any] = []
        for start in range(0, len(keys), _CONTENTS_AT_ONCE):
            octets += cast("Any", self._redis.mget(keys[start : start + _CONTENTS_AT_ONCE]))
        found = zip(accepted, octets, strict=True)
        contents = {event.number: packed for event, packed in found if packed and not is_large(event)}
        for event in filter(is_large, accepted):
            content = self._read_blob(Message.from_dict(event.fields["message"]))
            contents |= {event.number: unshrunk(content)} if content is not None else {}
        return contents


def is_large(event: Event) -> bool:
    """Whether it is of a message whose content lies beside the queue."""
    return bool(event.fields.get("message", {}).get("blob"))


def weight_of(event: Event) -> int:
    """Octets of the content that it brings."""
    size: int = event.fields.get("message", {}).get("size", 0)
    return size


def _run(events: Iterable[Event]) -> list[Event]:
    """The events up to the first hole in their numbers, or until their contents weigh enough."""
    run: list[Event] = []
    weight = 0
    for event in events:
        if run and (event.number != run[-1].number + 1 or weight > _MOST_BYTES):
            break
        run.append(event)
        weight += weight_of(event)
    return run
