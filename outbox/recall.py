"""Finds an ended message in the archive by the brief that the queue keeps of it, for those who ask what became of it.

The brief is `<number of its accepted event>:<a letter per recipient>:<c if complained, else k if clicked, o if
opened>:<rescheduled, ms>`, as lua/compact.lua writes it; lua/hits.lua keeps it up.
"""

import asyncio
from dataclasses import replace

from outbox.archive import Archive
from outbox.errors import Gap, ObjectsUnavailable
from outbox.message import Message
from outbox.states import ENDED, Reaction, State
from outbox.view import MessageView
from runtime.clock import from_ms
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

BRIEF = b"brief"
_STATES: dict[str, State] = {state[0]: state for state in ENDED}
_COMPLAINED = "c"
_REACTIONS = {"k": Reaction.CLICKED, "o": Reaction.OPENED}


class Recall:
    """One per process; the archive is opened when it is first needed, and read in a thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._archive: Archive | None = None
        self._alone = asyncio.Lock()  # an archive is not made for several threads

    async def views(self, briefs: dict[str, bytes], *, content: bool = False) -> dict[str, MessageView]:
        """The messages by id, without those that cannot be had here now: the history will know them."""
        if not briefs:
            return {}
        async with self._alone:
            return await asyncio.to_thread(self._views, briefs, content)

    def _views(self, briefs: dict[str, bytes], content: bool) -> dict[str, MessageView]:  # noqa: FBT001
        found: dict[str, MessageView] = {}
        try:
            archive = self._archive = self._archive or Archive.open(self._settings)
            for message_id, brief in sorted(briefs.items(), key=lambda item: _number(item[1])):
                if view := _view(archive, message_id, brief, content=content):
                    found[message_id] = view
        except (ObjectsUnavailable, Gap) as failure:
            log.warning("archive.cannot_recall", error=str(failure))
        return found


def _number(brief: bytes) -> int:
    return int(brief.partition(b":")[0])


def _view(archive: Archive, message_id: str, brief: bytes, *, content: bool) -> MessageView | None:
    _, letters, after, scheduled = brief.decode().split(":")
    recorded = archive.read(_number(brief) - 1, 1)
    fields = recorded[0].event.fields if recorded else {}
    if fields.get("id") != message_id or "message" not in fields:
        return None  # another machine's archive, or one that was pruned
    message = Message.from_dict(fields["message"])
    if scheduled:
        message = replace(message, scheduled_at=from_ms(int(scheduled)))
    states = tuple(_STATES[letter] for letter in letters)
    outcomes = (None,) * len(states)
    octets = recorded[0].content if content else None
    return MessageView(message, states, outcomes, after == _COMPLAINED, octets, _REACTIONS.get(after))
