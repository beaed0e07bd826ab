"""The body limit, in front of everything that reads a body: by Content-Length at once, by counting otherwise."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError, respond

JSON_OVERHEAD = 1024 * 1024  # octets that JSON may add to the greatest message
_DRAIN_SECONDS = 5.0


class BodyLimit:
    """Middleware that refuses bodies of more than `limit` octets with 413."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._refusal = ApiError(413, "validation_error", f"The request body is larger than {limit} bytes.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self._limit:
            scope["facts"]["error"] = self._refusal.name
            await _drain(receive, most=2 * self._limit)
            await self._refuse(scope, receive, send)
            return
        taken = 0

        async def receive_counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                await _drain(receive, most=self._limit)
                raise self._refusal
            return message

        await self._app(scope, receive_counted, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = respond(self._refusal)
        response.headers["connection"] = "close"
        await response(scope, receive, send)


async def _drain(receive: Receive, *, most: int) -> None:
    """Read on and forget, within bounds: closing on a client in mid-send resets it before it reads our answer."""
    left = most
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except TimeoutError:
        return
