"""GET /emails: a page over two sources, the outbox (live and recent, always there) and the history (everything else).

A message may be in both; the outbox knows better. Cursors are message ids; places are (created_at, id), newest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from api.errors import ApiError
from api.paging import Window
from api.queued import find_queued
from history.errors import HistoryUnavailable
from history.queries import History, Place
from history.search import Search
from outbox.queue import Outbox
from outbox.view import MessageView
from runtime.clock import to_ms
from runtime.connections import StoreError

_MOST_SCANNED = 5_000  # messages of one millisecond that a cursor may have to skip in the outbox


@dataclass(frozen=True, slots=True)
class Page:
    """Messages from the newest to the oldest; `complete` is False when the history could not be asked."""

    views: tuple[MessageView, ...]
    has_more: bool
    complete: bool


class Listing:
    """Pages of messages. One per app."""

    def __init__(self, outbox: Outbox, history: History) -> None:
        self._outbox = outbox
        self._history = history

    async def page(self, window: Window) -> Page:
        """The page. Raises ApiError for an unknown cursor, HistoryUnavailable when neither store answers."""
        older = await self._locate(window.after)
        newer = await self._locate(window.before)
        recent, queue_failure = await self._recent(window.limit + 1, older, newer)
        try:
            stored = await run_in_threadpool(self._history.page, limit=window.limit + 1, after=older, before=newer)
        except HistoryUnavailable:
            if queue_failure:
                raise
            return _page(window.limit, recent, nearest_last=newer is not None, complete=False)
        views = _merge(recent, stored)
        return _page(window.limit, views, nearest_last=newer is not None, complete=queue_failure is None)

    async def search(self, window: Window, search: Search) -> Page:
        """The page of what is found in the history, which may lag behind. Raises ApiError, HistoryUnavailable."""
        older, newer = await self._locate(window.after), await self._locate(window.before)

        def found() -> list[MessageView]:
            return self._history.page(limit=window.limit + 1, after=older, before=newer, search=search)

        return _page(window.limit, await run_in_threadpool(found), nearest_last=newer is not None, complete=True)

    async def _locate(self, cursor: str | None) -> Place | None:
        if cursor is None:
            return None
        view = await find_queued(self._outbox, cursor, content=False)
        if view is not None:
            return place_of(view)
        place = await run_in_threadpool(self._history.locate, cursor)
        if place is None:
            raise ApiError(422, "validation_error", "The pagination cursor is not the id of an email.")
        return place

    async def _recent(
        self, wanted: int, older: Place | None, newer: Place | None
    ) -> tuple[list[MessageView], Exception | None]:
        """Up to `wanted` messages of the outbox beyond the cursor, newest first; or why it could not be asked."""
        limit = wanted
        try:
            while True:
                found = await self._outbox.newest(
                    limit=limit,
                    before_ms=to_ms(older.created_at) if older else None,
                    after_ms=to_ms(newer.created_at) if newer else None,
                )
                beyond = [view for view in found if _is_beyond(place_of(view), older, newer)]
                # The index knows milliseconds only, so messages of the cursor's own may fill the answer.
                if len(beyond) >= wanted or len(found) < limit or limit > _MOST_SCANNED:
                    return beyond, None
                limit *= 4
        except StoreError as failure:
            return [], failure


def place_of(view: MessageView) -> Place:
    """Where the message stands in the list."""
    return Place(view.message.created_at, view.message.id)


def _is_beyond(place: Place, older: Place | None, newer: Place | None) -> bool:
    return (older is None or place < older) and (newer is None or place > newer)


def _merge(recent: Sequence[MessageView], stored: Sequence[MessageView]) -> list[MessageView]:
    every = {view.message.id: view for view in (*stored, *recent)}
    return sorted(every.values(), key=place_of, reverse=True)


def _page(limit: int, views: Sequence[MessageView], *, nearest_last: bool, complete: bool) -> Page:
    """The `limit` messages next to the cursor: the oldest of them when it asked for newer ones."""
    kept = views[-limit:] if nearest_last else views[:limit]
    return Page(tuple(kept), has_more=len(views) > limit, complete=complete)
