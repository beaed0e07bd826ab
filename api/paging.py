"""Pages of lists, in Resend's words: the newest first, cursors are ids."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request

from api.errors import invalid
from api.ids import parse_id

Item = TypeVar("Item")

DEFAULT = 20
_MOST = 100
_BAD_LIMIT = invalid(
    "The pagination limit must be a number between 1 and 100. "
    "See https://resend.com/docs/pagination for more information."
)


@dataclass(frozen=True, slots=True)
class Window:
    """Which page: `limit` items, older than the cursor `after` or newer than the cursor `before`."""

    limit: int = DEFAULT
    after: str | None = None
    before: str | None = None


def window_of(request: Request, *, cursor: Callable[[str], str] = parse_id) -> Window:
    """The window that the query asks for; `cursor` reads an id of the list's items. Raises ApiError 422."""
    query = request.query_params
    cursors = {name: cursor(query[name]) for name in ("after", "before") if name in query}
    if len(cursors) > 1:
        raise invalid("The `after` and `before` parameters cannot be used together.")
    return Window(_limit(query["limit"]) if "limit" in query else DEFAULT, **cursors)


def _limit(written: str) -> int:
    is_number = written.isascii() and written.isdigit() and len(written) <= len(str(_MOST))
    if not (is_number and 1 <= int(written) <= _MOST):
        raise _BAD_LIMIT
    return int(written)


def listed(items: Iterable[Any], *, has_more: bool) -> dict[str, Any]:
    """A page as Resend shows it."""
    return {"object": "list", "has_more": has_more, "data": list(items)}


def cut(window: Window, found: Sequence[Item], shown: Callable[[Item], Any]) -> dict[str, Any]:
    """The page out of what was `found` for the window and one item more, the newest first."""
    kept = found[-window.limit :] if window.before else found[: window.limit]
    return listed(map(shown, kept), has_more=len(found) > window.limit)


def page(
    request: Request,
    items: Sequence[Item],
    *,
    id_of: Callable[[Item], str],
    shown: Callable[[Item], Any],
    unasked: int | None = None,
) -> dict[str, Any]:
    """The page that the query asks for of a list that is short enough to be read whole. Raises ApiError 422.

    `items` are the newest first. As in Resend, without a `limit` all of them are on it, or `unasked`.
    """
    window = window_of(request)
    most = window.limit if "limit" in request.query_params else unasked or len(items)
    if window.after is not None:
        beyond = items[_place(items, window.after, id_of) + 1 :]
        kept = beyond[:most]
    elif window.before is not None:
        beyond = items[: _place(items, window.before, id_of)]
        kept = beyond[max(0, len(beyond) - most) :]
    else:
        beyond, kept = items, items[:most]
    return listed(map(shown, kept), has_more=len(beyond) > len(kept))


def _place(items: Sequence[Item], cursor: str, id_of: Callable[[Item], str]) -> int:
    for place, item in enumerate(items):
        if id_of(item) == cursor:
            return place
    raise invalid("The pagination cursor is not the id of an item of this list.")
