"""The short way of the requests to send: past routing, dependencies and exit stacks, which take as long as the work.

The same handlers stand in the routing table, which documents them and serves what is not their method.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from api import errors, frame

Handler = Callable[[Scope, Receive], Awaitable[dict[str, Any]]]


class Direct:
    """Middleware: answers POST to the paths of `handlers`, with the JSON that they give."""

    def __init__(self, app: ASGIApp, *, handlers: Mapping[str, Handler]) -> None:
        self._app = app
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        handler = self._handlers.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if handler is None:
            await self._app(scope, receive, send)
            return
        scope["facts"]["route"] = scope["path"]
        try:
            answer = await handler(scope, receive)
        except errors.TOLD as failure:
            await errors.told(scope, failure)(scope, receive, send)
        else:
            frame.answer(scope, orjson.dumps(answer))
