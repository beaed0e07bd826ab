"""A lean HTTP client that sends requests over kept connections and looks at every answer.

One request costs it a small part of what the server needs for it (`python -m bench client` measures that), so that it
is not what is measured.
"""

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

OK = 200
_ID = re.compile(rb'"id":"([^"]+)"')


def post(path: str, token: str, body: object) -> bytes:
    """The octets of a request."""
    content = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


@dataclass
class Tally:
    """What came of one phase: seconds of each answer by status, and the ids that were given."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    answered_at: Counter[tuple[int, int]] = field(default_factory=Counter)
    ids: set[bytes] = field(default_factory=set)
    took: float = 0.0
    unsent: int = 0

    def add(self, status: int, took: float, second: int, body: bytes) -> None:
        """One answer."""
        self.seconds.setdefault(status, []).append(took)
        self.answered_at[second, status] += 1
        self.ids.update(_ID.findall(body))

    def quantile(self, status: int, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.seconds.get(status, [0.0]))
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000

    def demand_all(self, requests: int, mails: int = 1) -> None:
        """ValueError unless each request was answered with 200 and ids of its own."""
        answers = {status: len(seconds) for status, seconds in self.seconds.items()}
        if answers != {OK: requests} or len(self.ids) != requests * mails:
            raise ValueError(f"of {requests} requests: answers {answers}, {len(self.ids)} ids")


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time. The server closes idle ones: then there is a new one."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._buffer = b""
        self._number = 0
        self._due = 0.0  # when the request that is under way was due

    def connection_lost(self, error: Exception | None) -> None:
        """Idle for too long, or refused in the middle."""
        del error
        self._load.lost(self, self._number, self._due)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready for a request."""
        self._transport = transport
        self._load.is_free(self)

    def send(self, number: int, at: float) -> None:
        """The request of this number, due at `at`."""
        self._number, self._due = number, at
        self._transport.write(self._load.request(number))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Waits for the whole of an answer."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return
        self._buffer = b""
        due, self._due = self._due, 0.0
        self._load.answered(self, self._number, due, int(head[9:12]), body)


Told = Callable[[int, float, float, int, bytes], None]


class Load:
    """Requests over a fixed set of connections: `await load.connect(32)`, then phases, then `load.end()`.

    `request` gives the octets of each by its number. `told` hears of each answer: number, when it was due and when it
    came (seconds of `time.perf_counter`), status (0: none came) and body.
    """

    def __init__(self, port: int, request: Callable[[int], bytes], *, told: Told | None = None) -> None:
        self.request = request
        self.free: deque[Connection] = deque()
        self.tally = Tally()
        self._told = told
        self._port = port
        self._size = 0
        self._next = 0
        self._waiting: deque[float] = deque()  # when they were due for which no connection was free
        self._opening: set[asyncio.Task[None]] = set()
        self._to_send = 0  # requests that a closed loop may still send
        self._over = False
        self._began = 0.0

    async def connect(self, connections: int) -> None:
        """Open them."""
        self._size = connections
        for _ in range(connections):
            self._connect_one()
        await self.quiet()

    def end(self) -> None:
        """Close all."""
        self._over = True
        for connection in self.free:
            connection._transport.close()  # noqa: SLF001 - two halves of one thing

    def lost(self, connection: Connection, number: int, due: float) -> None:
        """Open another; a request that was under way counts as answered with 0."""
        if due:
            self._count(number, due, 0, b"")
        elif not self._over:
            self.free.remove(connection)
        if not self._over:
            self._connect_one()

    def _connect_one(self) -> None:
        task = asyncio.create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Connection(self), "127.0.0.1", self._port)

    def answered(self, connection: Connection, number: int, due: float, status: int, body: bytes) -> None:
        """Count it; in a closed loop send the next."""
        self._count(number, due, status, body)
        if self._to_send > 0:
            self._to_send -= 1
            self._send(connection, time.perf_counter())
        else:
            self.is_free(connection)

    def is_free(self, connection: Connection) -> None:
        """Send over it what waits, or keep it."""
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self.free.append(connection)

    def _send(self, connection: Connection, due: float) -> None:
        number, self._next = self._next, self._next + 1
        connection.send(number, due)

    def _count(self, number: int, due: float, status: int, body: bytes) -> None:
        now = time.perf_counter()
        self.tally.add(status, now - due, int(now - self._began), body)
        if self._told is not None:
            self._told(number, due, now, status, body)

    async def count(self, requests: int, *, connections: int) -> Tally:
        """So many requests as fast as so many connections go."""
        self._start()
        self._to_send = requests - connections
        self._send_first(connections)
        return await self._ended()

    async def closed(self, seconds: float, *, connections: int) -> Tally:
        """As fast as so many connections go, for that long."""
        self._start()
        self._to_send = 1 << 62
        self._send_first(connections)
        await asyncio.sleep(seconds)
        self._to_send = 0
        return await self._ended()

    async def open(self, seconds: float, *, rate: float) -> Tally:
        """Each request at its time, whatever became of those before.

        Those for which no connection is free wait for one, and are timed from when they were due. Who still waits in
        the end is not sent, and counted.
        """
        self._start()
        sent = 0
        while (now := time.perf_counter() - self._began) < seconds:
            while sent < rate * now:
                due = self._began + sent / rate
                if self.free:
                    self._send(self.free.popleft(), due)
                else:
                    self._waiting.append(due)
                sent += 1
            await asyncio.sleep(0.001)
        self.tally.unsent = len(self._waiting)
        self._waiting.clear()
        return await self._ended()

    def _start(self) -> None:
        self.tally = Tally()
        self._to_send = 0
        self._began = time.perf_counter()

    def _send_first(self, connections: int) -> None:
        for _ in range(connections):
            self._send(self.free.popleft(), time.perf_counter())

    async def _ended(self) -> Tally:
        tally = self.tally
        await self.quiet()
        tally.took = time.perf_counter() - self._began
        return tally

    async def quiet(self) -> None:
        """Return when nothing is under way."""
        while len(self.free) < self._size:  # noqa: ASYNC110 - polled in seconds that do not count
            await asyncio.sleep(0.002)
