"""The events for webhooks, with the messages they speak of. Read once for all webhooks that are in step."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from redis import Redis

from outbox.archive import Archive
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

Told = tuple[Event, Message | None]


class EventReader:
    """One per process; `read` may be called by many."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._prefix = f"{{{settings.queue_prefix}}}"
        self._source = EventSource(redis, settings)
        self._archive = Archive.open(settings)
        self._known: OrderedDict[str, Message] = OrderedDict()
        self._last: tuple[int, list[Told]] = (-1, [])
        self._alone = asyncio.Lock()

    async def read(self, after: int) -> list[Told]:
        """The next events, each with its message where it needs one and that can be found. Raises Gap, StoreError."""
        async with self._alone:
            if self._last[0] != after or not self._last[1]:
                self._last = (after, await asyncio.to_thread(self._read, after))
            return self._last[1]

    def _read(self, after: int) -> list[Told]:
        events = [recorded.event for recorded in self._source.read(after, _AT_ONCE, contents=False)]
        self._keep_accepted(events)
        wanted = {event.fields["id"]: event.number for event in events if needs_message(event)}
        self._look_up({message_id: n for message_id, n in wanted.items() if message_id not in self._known})
        told = [(event, self._known.get(event.fields["id"])) for event in events]
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return told

    def _keep(self, message: Message) -> None:
        self._known[message.id] = message
        self._known.move_to_end(message.id)

    def _look_up(self, wanted: dict[str, int]) -> None:
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
            self._search(missing, before=max(wanted.values()))

    def _recall(self, message_id: str, number: int) -> bool:
        try:
            found = self._archive.read(number - 1, 1)
        except (Gap, ObjectsUnavailable):
            return False
        self._keep_accepted(recorded.event for recorded in found)
        return message_id in self._known

    def _search(self, missing: set[str], *, before: int) -> None:
        """After a long stop the queue has forgotten what ended: the archive is read backwards until all are found."""
        for segment in reversed(self._archive.segments()):
            if segment.first <= before and missing - self._known.keys():
                try:
                    recorded = self._archive.read(segment.first - 1, segment.last)
                    self._keep_accepted((each.event for each in recorded), missing)
                except Gap as damage:
                    log.error("webhooks.archive_damaged", error=str(damage))
        if lost := missing - self._known.keys():
            log.error("webhooks.messages_unknown", count=len(lost), ids=sorted(lost)[:10])

    def _keep_accepted(self, events: Iterable[Event], wanted: set[str] | None = None) -> None:
        for event in events:
            if event.kind == "accepted" and (wanted is None or event.fields["id"] in wanted):
                with suppress(KeyError, TypeError, ValueError):  # of another version; the history puts it aside
                    self._keep(Message.from_dict(event.fields["message"]))
