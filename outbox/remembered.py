"""Which accepts the archive tells of: the queue forgets a message some minutes after its end, and never before that.

So queue and archive together know every accept that the queue ever had, however long a machine was away.
"""

import asyncio
from collections.abc import Set as AbstractSet

from outbox.archive import Archive, Segment
from outbox.errors import Gap, ObjectsUnavailable
from outbox.events import Event
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)


async def remembered(settings: Settings, ids: AbstractSet[str], *, since: int) -> set[str]:
    """Those of these message ids that were in some queue, as far as the archive here tells; `since` is in ms.

    Reads the archive back to that instant, in a thread. What cannot be read is not remembered.
    """
    found: set[str] = set()
    try:
        archive = await asyncio.to_thread(Archive.open, settings)
        for segment in reversed(await asyncio.to_thread(archive.segments)):
            events = await asyncio.to_thread(_events, archive, segment)
            found |= ids & {event.fields["id"] for event in events if event.kind == "accepted"}
            if max(event.fields["at"] for event in events) < since:
                break
    except (ObjectsUnavailable, Gap) as failure:
        log.error("accept.archive_not_asked", error=str(failure))
    return found


def _events(archive: Archive, segment: Segment) -> list[Event]:
    recorded = archive.read(segment.first - 1, segment.last - segment.first + 1)
    return [one.event for one in recorded]
