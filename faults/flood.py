"""A client of `POST /emails` that costs next to nothing, so that one process can ask for more than a stack can do."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import cast

import orjson

from nightmail.client_details import ClientDetails
from nightmail.demo.http_sender import html
from nightmail.demo.ledger import Ledger, Receipt

_OK = 200
_CONNECTIONS = 256  # as many as a fleet of clients would keep; more are only work for the accepting of connections
_PATIENCE = 15.0  # seconds for one answer
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was due to leave and when it was answered (wall clock), and the status; 0: no answer."""

    begun_at: float
    ended_at: float
    status: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended_at - self.begun_at


class _Line(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Status and body of the answer. Raises ConnectionError."""
        self._answer = asyncio.get_running_loop().create_future()
        if self.open:
            self._transport.write(request)
        else:
            self._answer.set_exception(ConnectionResetError())
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Part of an answer, most often all of it."""
        self._buffer += data
        head, found, body = self._buffer.partition(_END)
        if not found:
            return
        head = head.lower()
        if len(body) < int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            return
        self._buffer = b""
        if b"connection: close" in head:
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        """The server hung up."""
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    def close(self) -> None:
        """Hang up."""
        self.open = False
        self._transport.close()


class Flood:
    """Sends each mail over connections that are kept, asks no second time, and writes down what became of it."""

    def __init__(self, details: ClientDetails, ledger: Ledger) -> None:
        self._host, _, port = details.url.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._head = f"POST /emails HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {details.api_key}\r\n"
        self._ledger = ledger
        self._idle: deque[_Line] = deque()
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._next = 0

    async def send(self) -> Answer:
        """Send the next mail."""
        number, self._next = self._next, self._next + 1
        begun_at = time.time()
        try:
            async with asyncio.timeout(_PATIENCE), self._free:
                status, body = await self._exchange(number)
        except (OSError, TimeoutError) as error:
            self._ledger.refused(number, f"no answer: {error!r}")
            return Answer(begun_at, time.time(), 0)
        ended_at = time.time()
        if status == _OK:
            self._ledger.took(Receipt(number, "API", orjson.loads(body)["id"], ended_at, begun_at))
        else:
            self._ledger.refused(number, f"{status} {body[:100].decode(errors='replace')}")
        return Answer(begun_at, ended_at, status)

    async def _exchange(self, number: int) -> tuple[int, bytes]:
        """A kept connection may have been closed meanwhile: only then the mail is sent again, under its key."""
        request = self._request(number)
        while self._idle:
            line = self._idle.pop()
            if line.open:
                try:
                    return await self._over(line, request)
                except ConnectionError:
                    break
        _, line = await asyncio.get_running_loop().create_connection(_Line, self._host, self._port)
        return await self._over(line, request)

    async def _over(self, line: _Line, request: bytes) -> tuple[int, bytes]:
        try:
            answer = await line.ask(request)
        except BaseException:
            line.close()
            raise
        if line.open:
            self._idle.append(line)
        return answer

    def _request(self, number: int) -> bytes:
        mail = {
            "from": "Demo <demo@nightmail.example>",
            "to": f"reader{number % 100}@example.org",
            "subject": self._ledger.subject(number),
            "html": html(number),
        }
        body = orjson.dumps(mail)
        head = f"{self._head}Idempotency-Key: {self._ledger.run}-{number}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def close(self) -> None:
        """Hang up."""
        for line in self._idle:
            line.close()
