"""Refuses at the socket: who comes to a full house is answered at the head of the request, before anything is parsed.

What a server still does under too much load is what refusing leaves of it. By way of parser, task and middlewares a
refusal costs a sixth of an accept; here it costs a fraction of that. It knows only requests of the usual form, on a
connection where nothing else is under way; all others are refused by `Admission`, in the same words.
"""

import asyncio
import re
from collections.abc import Iterable
from datetime import timedelta
from functools import cache, partial
from math import inf
from typing import Any, ClassVar, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api import errors, frame
from api.errors import ApiError
from api.limits import SENDING
from outbox.accept import Acceptor
from outbox.errors import Unavailable

_LINES = {f"POST {path} HTTP/1.1\r\n".encode(): path for path in SENDING}
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,6})\r\n")  # larger bodies are not swallowed in passing
Field = tuple[bytes, bytes]
_UNUSUAL = (b"\r\nconnection: close", b"\r\ntransfer-encoding:", b"\r\nexpect:")


class Head(NamedTuple):
    """Where a request to send goes, and how many octets it has in all."""

    path: str
    octets: int


def head_of(data: bytes) -> Head | None:
    """The request that begins here, if its head is whole and of the usual form, and no other follows it."""
    path = _LINES.get(data[: data.find(b"\r\n") + 2])
    end = data.find(b"\r\n\r\n")
    if path is None or end < 0:
        return None
    fields = data[: end + 2].lower()
    lengths = _LENGTH.findall(fields)
    if len(lengths) != 1 or fields.count(b"\r\ncontent-length") != 1 or any(name in fields for name in _UNUSUAL):
        return None
    octets = end + 4 + int(lengths[0])
    return Head(path, octets) if len(data) <= octets else None


class Doorkeeper(HttpToolsProtocol):
    """uvicorn's own HTTP/1.1, behind a door."""

    acceptor: ClassVar[Acceptor]

    _is_amid = False  # whether part of a request was read and the rest is to come
    _to_skip = 0  # octets to come of a request that was refused
    _refused_at = -inf  # time of the event loop

    def data_received(self, data: bytes) -> None:
        """Octets of the client arrived."""
        if self._to_skip:
            skipped = min(self._to_skip, len(data))
            self._to_skip -= skipped
            data = data[skipped:]
        if data and not (self.acceptor.door.is_full and self._is_resting() and self._refused(data)):
            super().data_received(data)

    def on_message_begin(self) -> None:
        """The parser found the first octet of a request."""
        self._is_amid = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The parser found the last one."""
        self._is_amid = False
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.scope["answer"] = partial(_answer, cycle)  # type: ignore[typeddict-unknown-key]
        super()._start_asgi_task(cycle, app)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless it was refused something meanwhile: a timer for each would cost more."""
        left = self._refused_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _is_resting(self) -> bool:
        return not self._is_amid and (self.cycle is None or self.cycle.response_complete)

    def _refused(self, data: bytes) -> bool:
        head = head_of(data)
        if head is None or self.transport.is_closing():
            return False
        try:
            self.acceptor.demand()
        except Unavailable as refusal:
            error = errors.of(refusal)
            date = _written(self.server_state.default_headers)
            answer = _after_date(error.status, error.name, error.message, error.retry_after)
            self.transport.write(b"%s%s%s" % (STATUS_LINE[error.status], date, answer))
            self._to_skip = head.octets - len(data)
            self._refused_at = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self.timeout_keep_alive_handler()
            frame.count("POST", head.path, error.status)
            return True
        return False


def protocol(acceptor: Acceptor) -> type[asyncio.Protocol]:
    """What uvicorn lets serve each connection, behind the door of `acceptor`."""
    return type(Doorkeeper.__name__, (Doorkeeper,), {"acceptor": acceptor})


def _answer(cycle: RequestResponseCycle, status: int, fields: Iterable[Field], body: bytes) -> None:
    """The whole of an answer that is ours from its first octet to its last: nothing in it needs to be looked at."""
    if cycle.disconnected:
        return
    cycle.response_started = cycle.response_complete = True
    closing = b"" if cycle.keep_alive else b"connection: close\r\n"
    head = _written((*cycle.default_headers, *fields))
    cycle.transport.write(b"%s%s%s\r\n%s" % (STATUS_LINE[status], head, closing, body))
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.message_event.set()
    cycle.on_response()


def _written(fields: Iterable[Field]) -> bytes:
    return b"".join([b"%s: %s\r\n" % field for field in fields])


@cache
def _after_date(status: int, name: str, message: str, retry_after: timedelta | None) -> bytes:
    response = errors.respond(ApiError(status, name, message, retry_after=retry_after))
    return _written(response.raw_headers) + b"\r\n" + response.body
