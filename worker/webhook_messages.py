"""The events for webhooks, with the messages they speak of. Read once for all webhooks that are in step."""

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from redis import Redis

from outbox.archive import Archive, Segment
from outbox.errors import Gap, ObjectsUnavailable
from outbox.events import Event
from outbox.message import Message
from outbox.stream import EventSource
from runtime.logs import get
from runtime.settings import Settings
from worker.webhook_payload import needs_message

log = get(__name__)

_AT_ONCE = 200  # events
_KNOWN = 5_000  # messages kept in memory: most events are about mail of the last minutes

_SLACK = 10_000  # ms by which the clocks of machines may differ
_TOLD_LATE = 86_400_000  # ms: mail that waited in a journal for longer is not looked for

Told = tuple[Event, Message | None]


class EventReader:
    """One per process; `read` may be called by many. `hits`: whether messages are wanted for opens and clicks."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._prefix = f"{{{settings.queue_prefix}}}"
        self._source = EventSource(redis, settings)
        self._archive = Archive.open(settings)
        self._known: OrderedDict[str, Message] = OrderedDict()
        self._last: tuple[int, list[Told]] = (-1, [])
        self._began: dict[int, int] = {}  # by the number of a segment's first event: when that was (ms)
        self._alone = asyncio.Lock()
        self.hits = True

    async def read(self, after: int) -> list[Told]:
        """The next events, each with its message where it needs one and that can be found. Raises Gap, StoreError."""
        async with self._alone:
            if self._last[0] != after or not self._last[1]:
                self._last = (after, await asyncio.to_thread(self._read, after))
            return self._last[1]

    def _read(self, after: int) -> list[Told]:
        events = [recorded.event for recorded in self._source.read(after, _AT_ONCE, contents=False)]
        self._keep_accepted(events)
        wanted = {
            event.fields["id"]: event for event in events if needs_message(event) and (self.hits or not _is_hit(event))
        }
        self._look_up({message_id: event for message_id, event in wanted.items() if message_id not in self._known})
        told = [(event, self._known.get(event.fields["id"])) for event in events]
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return told

    def _keep(self, message: Message) -> None:
        self._known[message.id] = message
        self._known.move_to_end(message.id)

    def _look_up(self, wanted: dict[str, Event]) -> None:
        """In the queue; of what has ended a brief may lead into the archive; the rest is looked for there."""
        pipe = self._redis.pipeline(transaction=False)
        for message_id in wanted:
            pipe.hmget(f"{self._prefix}:m:{message_id}", "meta", "brief")
        replies: Any = pipe.execute() if wanted else []
        missing: set[str] = set()
        for message_id, (meta, brief) in zip(wanted, replies, strict=True):
            if meta is not None:
                self._keep(Message.from_json(meta))
            elif brief is None or not self._recall(message_id, int(brief.partition(b":")[0])):
                missing.add(message_id)
        if missing:
            self._search({message_id: wanted[message_id] for message_id in missing})

    def _recall(self, message_id: str, number: int) -> bool:
        try:
            found = self._archive.read(number - 1, 1)
        except (Gap, ObjectsUnavailable):
            return False
        self._keep_accepted(recorded.event for recorded in found)
        return message_id in self._known

    def _search(self, missing: dict[str, Event]) -> None:
        """In the archive. Opens and clicks come days later, and say when their mail was accepted."""
        segments = self._archive.segments()
        for message_id, event in missing.items():
            if _is_hit(event):
                self._search_since(message_id, int(event.fields["created_at"]), segments)
        others = {message_id: event.number for message_id, event in missing.items() if not _is_hit(event)}
        if others:
            self._search_back(set(others), segments, before=max(others.values()))
        if lost := missing.keys() - self._known.keys():
            log.error("webhooks.messages_unknown", count=len(lost), ids=sorted(lost)[:10])

    def _search_since(self, message_id: str, created_at: int, segments: Sequence[Segment]) -> None:
        """From where the archive was then: the event is soon found, unless its mail waited long in a journal."""
        begin = bisect_right(segments, created_at - _SLACK, key=self._began_at) - 1
        for segment in segments[max(begin, 0) :]:
            if message_id in self._known or self._began_at(segment) > created_at + _TOLD_LATE:
                return
            self._take(segment, {message_id})

    def _search_back(self, missing: set[str], segments: Sequence[Segment], *, before: int) -> None:
        """After a long stop the queue has forgotten what ended: the archive is read backwards until all are found."""
        for segment in reversed(segments):
            if segment.first <= before and missing - self._known.keys():
                self._take(segment, missing)

    def _take(self, segment: Segment, wanted: set[str]) -> None:
        try:
            recorded = self._archive.read(segment.first - 1, segment.last)
        except Gap as damage:
            log.error("webhooks.archive_damaged", error=str(damage))
            return
        self._keep_accepted((each.event for each in recorded), wanted)

    def _began_at(self, segment: Segment) -> int:
        """When its first event was; of a damaged one, as if it came first."""
        if segment.first not in self._began:
            try:
                self._began[segment.first] = int(self._archive.read(segment.first - 1, 1)[0].event.fields["at"])
            except Gap:
                self._began[segment.first] = 0
        return self._began[segment.first]

    def _keep_accepted(self, events: Iterable[Event], wanted: set[str] | None = None) -> None:
        for event in events:
            if event.kind == "accepted" and (wanted is None or event.fields["id"] in wanted):
                with suppress(KeyError, TypeError, ValueError):  # of another version; the history puts it aside
                    self._keep(Message.from_dict(event.fields["message"]))


def _is_hit(event: Event) -> bool:
    return event.kind in {"opened", "clicked"}
