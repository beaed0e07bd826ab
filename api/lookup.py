"""One message by its id, for the control API: the last to be asked, so the only one to say "not found"."""

from typing import Any

from redis.asyncio import Redis
from starlette.concurrency import run_in_threadpool

from api import errors
from api.present import show
from history.queries import History
from outbox.backlog import backlog
from outbox.queue import Outbox
from outbox.view import MessageView
from runtime import clock
from runtime.connections import StoreError
from runtime.settings import Settings


class Lookup:
    """One message by its id, from the outbox while it is there and from the history afterwards."""

    def __init__(self, settings: Settings, outbox: Outbox, history: History, redis: Redis) -> None:
        self._settings = settings
        self._outbox = outbox
        self._history = history
        self._redis = redis

    async def email(self, email_id: str) -> dict[str, Any]:
        """The message as clients see it. Raises ApiError 404 only when it is known not to exist."""
        view = await self._live(email_id) or await run_in_threadpool(self._history.find, email_id)
        if view is None:
            await self._require_complete_history()
            raise errors.not_found("Email")
        return await show(view)

    async def _live(self, email_id: str) -> MessageView | None:
        try:
            return await self._outbox.find(email_id, content=True)
        except StoreError:  # the history may know it; if not, the next question to the queue ends in 503
            return None

    async def _require_complete_history(self) -> None:
        """Raise when a message could have left the outbox and not have reached the history yet."""
        recorder = (await backlog(self._redis, self._settings, now=clock.now())).recorder
        kept = self._settings.recent_retention.total_seconds()
        if recorder.behind and not (recorder.state == "ok" and recorder.behind_seconds < kept):
            raise errors.unavailable()
