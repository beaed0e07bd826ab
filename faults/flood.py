"""A client of `POST /emails` that costs next to nothing, so that one process can ask for more than a stack can do."""

import asyncio
import time
from dataclasses import dataclass

import orjson

from nightmail.client_details import ClientDetails
from nightmail.demo.http_sender import html
from nightmail.demo.ledger import Ledger, Receipt

_OK = 200
_PATIENCE = 15.0  # seconds for one answer


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


class Flood:
    """Sends each mail over connections that are kept, asks no second time, and writes down what became of it."""

    def __init__(self, details: ClientDetails, ledger: Ledger) -> None:
        self._host, _, port = details.url.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._head = f"POST /emails HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {details.api_key}\r\n"
        self._ledger = ledger
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._next = 0

    async def send(self) -> Answer:
        """Send the next mail."""
        number, self._next = self._next, self._next + 1
        begun_at = time.time()
        try:
            async with asyncio.timeout(_PATIENCE):
                status, body = await self._exchange(number)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
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
        if self._idle:
            try:
                return await self._over(*self._idle.pop(), number)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
        return await self._over(*await asyncio.open_connection(self._host, self._port), number)

    async def _over(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> tuple[int, bytes]:
        try:
            writer.write(self._request(number))
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
            body = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        if b"connection: close" in lines:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head.split(b" ", 2)[1]), body

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
        for _, writer in self._idle:
            writer.close()
