"""The short way of the requests to send: past routing, dependencies and exit stacks, which take as long as the work.

The same handlers stand in the routing table, which documents them and serves what is not their method.
"""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import errors

Handler = Callable[[Request], Awaitable[Response]]


class Direct:
    """Middleware: answers POST to the paths of `handlers`."""

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
        request = Request(scope, receive)
        try:
            response = await handler(request)
        except errors.TOLD as failure:
            response = await errors.answer(request, failure)
        await response(scope, receive, send)
