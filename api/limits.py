"""What stands in front of everything that reads a body: the limit on its size, and the door to accepting.

Both refuse by what is known at the head of a request where they can, before anything is read, parsed or looked up.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors
from api.errors import ApiError, respond
from api.reading import field
from outbox.accept import Acceptor
from outbox.errors import Overloaded, Unavailable

JSON_OVERHEAD = 1024 * 1024  # octets that JSON may add to the greatest message
_DRAIN_SECONDS = 5.0
SENDING = frozenset({"/emails", "/emails/batch"})


class BodyLimit:
    """Middleware that refuses bodies of more than `limit` octets with 413."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._refusal = ApiError(413, "validation_error", f"The request body is larger than {limit} bytes.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; one that does not say how long it is, with a `receive` that counts."""
        declared = field(scope, b"content-length") if scope["type"] == "http" else "0"
        if declared is None:
            await self._app(scope, self._counting(receive), send)
        elif int(declared) <= self._limit:  # the server's parser sees to it that this is a number, and true
            await self._app(scope, receive, send)
        else:
            scope["facts"]["error"] = self._refusal.name
            await _drain(receive, most=2 * self._limit)
            await self._refuse(scope, receive, send)

    def _counting(self, receive: Receive) -> Receive:
        taken = 0

        async def receive_counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                await _drain(receive, most=self._limit)
                raise self._refusal
            return message

        return receive_counted

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = respond(self._refusal)
        response.headers["connection"] = "close"
        await response(scope, receive, send)


class Admission:
    """Middleware in front of sending: refuses below a floor (507) and when too many come (429).

    429 and not 503, because clients written for Resend wait at 429 and send again, as they do at its rate limit, while
    they take a 503 for an outage: they alarm, or go to another node, which is as busy.

    A place is taken when the whole body is here, so that slow senders hold none. Until then only octets are counted,
    and those of bodies that come in one piece are not: the places bound them. The visit is in the request's scope.
    """

    def __init__(self, app: ASGIApp, *, acceptor: Acceptor) -> None:
        self._app = app
        self._acceptor = acceptor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse at once, or pass the request on with a `receive` that waits for a place."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in SENDING:
            await self._app(scope, receive, send)
            return
        try:
            self._acceptor.demand()
        except Unavailable as refusal:
            error = errors.of(refusal)
            # One line each would cost more than the refusals: the door and the floors tell when they begin.
            scope["facts"] |= {"error": error.name, "untold": True}
            await respond(error)(scope, receive, send)
            return
        scope["visit"] = visit = Visit(self._acceptor, receive)
        try:
            await self._app(scope, visit.receive, send)
        finally:
            visit.end()
            del scope["visit"]  # which the server's `receive` leads back to: a cycle, for each request


class Visit:
    """One request on its way through the door."""

    __slots__ = ("_acceptor", "_has_place", "_octets", "_receive")

    def __init__(self, acceptor: Acceptor, receive: Receive) -> None:
        self._acceptor = acceptor
        self._receive = receive
        self._octets = 0
        self._has_place = False

    async def receive(self) -> Message:
        """The next message of the server; the last piece of the body is given once there is a place."""
        message = await self._receive()
        if message["type"] != "http.request" or self._has_place:
            return message
        if message.get("more_body"):
            self._hold(len(message.get("body", b"")))
        else:
            await self.enter()
        return message

    async def enter(self) -> None:
        """Take a place, at first or after `step_out`. Raises Overloaded."""
        await self._acceptor.door.enter()
        self._has_place = True

    def step_out(self) -> None:
        """Give the place back, so that what takes long somewhere else keeps nobody out."""
        if self._has_place:
            self._has_place = False
            self._acceptor.door.leave()

    def _hold(self, octets: int) -> None:
        if not self._acceptor.door.octets.take(octets):
            raise Overloaded("too many large requests at once")
        self._octets += octets

    def end(self) -> None:
        """The request was answered, or its client went away."""
        self._acceptor.door.octets.give_back(self._octets)
        self.step_out()


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
