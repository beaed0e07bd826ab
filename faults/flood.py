"""A client of `POST /emails` that costs next to nothing, so that one process can ask for more than a stack can do."""

import time
from dataclasses import dataclass

import orjson

from bench.http_load import OK, Load
from nightmail.client_details import ClientDetails
from nightmail.demo.http_sender import html
from nightmail.demo.ledger import Ledger, Receipt

_CONNECTIONS = 256  # as many as a fleet of clients would keep; more are only work for the accepting of connections


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
    """Sends each mail once, over connections that are kept, and writes down what became of it."""

    def __init__(self, details: ClientDetails, ledger: Ledger) -> None:
        self._host, _, port = details.url.removeprefix("http://").rpartition(":")
        self._head = f"POST /emails HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {details.api_key}\r\n"
        self._ledger = ledger
        self._load = Load(int(port), self._request, told=self._answered)
        self._answers: list[Answer] = []
        self._written: dict[int, bytes] = {}  # requests by number, ready beforehand
        self._epoch = time.time() - time.perf_counter()

    async def connect(self) -> None:
        """Open the connections."""
        await self._load.connect(_CONNECTIONS)

    async def closed(self, seconds: float, *, clients: int) -> list[Answer]:
        """So many clients for so long, each sending one mail after the other."""
        self._answers = []
        await self._load.closed(seconds, connections=clients)
        return self._answers

    async def open(self, rate: float, seconds: float) -> list[Answer]:
        """So many mails a second for so long, whatever becomes of them."""
        self._answers = []
        first = len(self._ledger.receipts) + len(self._ledger.refusals)
        self._written = {number: self._write(number) for number in range(first, first + int(rate * seconds) + 1)}
        await self._load.open(seconds, rate=rate)
        return self._answers

    def close(self) -> None:
        """Hang up."""
        self._load.end()

    def _answered(self, number: int, due: float, came: float, status: int, body: bytes) -> None:
        answer = Answer(self._epoch + due, self._epoch + came, status)
        self._answers.append(answer)
        if status == OK:
            id_ = orjson.loads(body)["id"]
            self._ledger.took(Receipt(number, "API", id_, answer.ended_at, answer.begun_at))
        else:
            self._ledger.refused(number, f"{status} {body[:100].decode(errors='replace')}")

    def _request(self, number: int) -> bytes:
        return self._written.get(number) or self._write(number)

    def _write(self, number: int) -> bytes:
        mail = {
            "from": "Demo <demo@nightmail.example>",
            "to": f"reader{number % 100}@example.org",
            "subject": self._ledger.subject(number),
            "html": html(number),
        }
        body = orjson.dumps(mail)
        head = f"{self._head}Idempotency-Key: {self._ledger.run}-{number}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
