"""One message by its id, for the control API: the last to be asked, so the only one to say "not found"."""

from typing import Any

from redis.asyncio import Redis
from starlette.concurrency import run_in_threadpool

from api import errors
from api.present import OURS, show
from api.queued import find_queued
from api.timeline import told
from history.errors import HistoryUnavailable
from history.queries import History, TimelineEvent
from outbox.backlog import backlog
from outbox.queue import Outbox
from outbox.view import MessageView
from runtime import clock
from runtime.settings import Settings


class Lookup:
    """One message by its id, from the outbox while it is there and from the history afterwards."""

    def __init__(self, settings: Settings, outbox: Outbox, history: History, redis: Redis) -> None:
        self._settings = settings
        self._outbox = outbox
        self._history = history
        self._redis = redis

    async def email(self, email_id: str) -> tuple[dict[str, Any], bool]:
        """The message as clients see it, and whether that is all. Raises ApiError 404 only if it cannot exist."""
        view = await self.view(email_id)
        events = await self._events(email_id)
        return await show(view) | {OURS: told(view, events)}, events is not None

    async def view(self, email_id: str) -> MessageView:
        """The message with its content. Raises ApiError 404 only if it cannot exist."""
        view = await find_queued(self._outbox, email_id, content=True)
        view = view or await run_in_threadpool(self._history.find, email_id)
        if view is None:
            await self._require_complete_history()
            raise errors.not_found("Email")
        return view

    async def _events(self, email_id: str) -> list[TimelineEvent] | None:
        try:
            return await run_in_threadpool(self._history.events_of, email_id)
        except HistoryUnavailable:
            return None

    async def _require_complete_history(self) -> None:
        """Raise when a message could have left the outbox and not have reached the history yet."""
        recorder = (await backlog(self._redis, self._settings, now=clock.now())).recorder
        kept = self._settings.recent_retention.total_seconds()
        if recorder.behind and not (recorder.state == "ok" and recorder.behind_seconds < kept):
            raise errors.unavailable()
