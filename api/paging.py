"""Pages of lists that are short enough to be read whole: the newest first, cursors are ids.

As in Resend, without a `limit` everything is on one page.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request

from api.errors import invalid
from api.ids import parse_id
from api.listing import read_window

Item = TypeVar("Item")


def page(
    request: Request,
    items: Sequence[Item],
    *,
    id_of: Callable[[Item], str],
    shown: Callable[[Item], Any],
    unasked: int | None = None,
) -> Any:
    """The page that the query asks for, as a list object. `items` are the newest first. Raises ApiError 422.

    Without a `limit` there are `unasked` items on it, or all of them.
    """
    query = request.query_params
    cursors = {name: parse_id(query[name]) for name in ("after", "before") if name in query}
    window = read_window(limit=query.get("limit"), after=cursors.get("after"), before=cursors.get("before"))
    most = window.limit if "limit" in query else unasked or len(items)
    if window.after is not None:
        beyond = items[_place(items, window.after, id_of) + 1 :]
        kept = beyond[:most]
    elif window.before is not None:
        beyond = items[: _place(items, window.before, id_of)]
        kept = beyond[max(0, len(beyond) - most) :]
    else:
        beyond, kept = items, items[:most]
    return {"object": "list", "has_more": len(beyond) > len(kept), "data": [shown(item) for item in kept]}


def _place(items: Sequence[Item], cursor: str, id_of: Callable[[Item], str]) -> int:
    for place, item in enumerate(items):
        if id_of(item) == cursor:
            return place
    raise invalid("The pagination cursor is not the id of an item of this list.")
