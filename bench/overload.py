"""Three times as many sends as one API process can take: `python -m bench.overload`. Takes half a minute.

First the peak, closed loop; then three times that, open loop, so that a slow server is not spared; then half of the
peak, to see how soon all is well again. The load comes from another process than the API; both share the machine.
"""

import asyncio
import resource
import subprocess
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import uvloop

from outbox.policy_store import PolicyStore
from runtime.connections import redis_async
from runtime.settings import Settings
from tests.fixtures.stack import NIGHTMAIL, environment
from tests.fixtures.valkey import ValkeyServer, free_port

_CONNECTIONS = 300
_OK = 200
_MAIL = {
    "from": "Acme <on@acme.test>",
    "to": "you@there.test",
    "subject": "Hello",
    "html": "<p>" + "A line of a letter that nobody reads. " * 100 + "</p>",
}


@dataclass
class Tally:
    """What came of one phase: seconds of each answer, by status."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    answered_at: Counter[tuple[int, int]] = field(default_factory=Counter)
    unsent: int = 0

    def add(self, status: int, took: float, second: int) -> None:
        """One answer."""
        self.seconds.setdefault(status, []).append(took)
        self.answered_at[second, status] += 1

    def quantile(self, status: int, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.seconds.get(status, [0.0]))
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time. The server closes idle ones: then there is a new one."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._buffer = b""
        self._due = 0.0  # when the request that is under way was due

    def connection_lost(self, error: Exception | None) -> None:
        """Idle for too long, or refused in the middle."""
        del error
        self._load.lost(self, self._due)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready for a request."""
        self._transport = transport
        self._load.free.append(self)

    def send(self, at: float) -> None:
        """The request, due at `at`."""
        self._due = at
        self._transport.write(self._load.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Answers are short; this waits for the whole of one."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return
        self._buffer = b""
        due, self._due = self._due, 0.0
        self._load.answered(self, int(head[9:12]), due)


class Load:
    """Requests over a fixed set of connections."""

    def __init__(self, port: int, request: bytes) -> None:
        self.request = request
        self._port = port
        self._opening: set[asyncio.Task[None]] = set()
        self.free: deque[Connection] = deque()
        self.tally = Tally()
        self._closed_loop = False
        self._over = False
        self._began = 0.0

    def lost(self, connection: Connection, due: float) -> None:
        """Open another; a request that was under way counts as answered with 0."""
        if due:
            self.tally.add(0, time.perf_counter() - due, int(time.perf_counter() - self._began))
        else:
            self.free.remove(connection)
        if not self._over:
            self.connect()

    def connect(self) -> None:
        """One more connection, soon."""
        task = asyncio.create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Connection(self), "127.0.0.1", self._port)

    def end(self) -> None:
        """No new connections."""
        self._over = True

    def answered(self, connection: Connection, status: int, due: float) -> None:
        """Count it; in a closed loop send the next."""
        now = time.perf_counter()
        self.tally.add(status, now - due, int(now - self._began))
        if self._closed_loop:
            connection.send(now)
        else:
            self.free.append(connection)

    async def closed(self, seconds: float, *, connections: int) -> Tally:
        """As fast as so many connections go."""
        self._start(closed_loop=True)
        for _ in range(connections):
            self.free.popleft().send(time.perf_counter())
        await asyncio.sleep(seconds)
        self._closed_loop = False
        tally = self.tally
        await self.quiet()
        return tally

    async def open(self, seconds: float, *, rate: float) -> Tally:
        """Each request at its time, whatever became of those before. Those for which no connection is free count."""
        self._start(closed_loop=False)
        sent = 0
        while (now := time.perf_counter() - self._began) < seconds:
            while sent < rate * now:
                if self.free:
                    self.free.popleft().send(self._began + sent / rate)
                else:
                    self.tally.unsent += 1
                sent += 1
            await asyncio.sleep(0.001)
        tally = self.tally
        await self.quiet()
        return tally

    def _start(self, *, closed_loop: bool) -> None:
        self.tally = Tally()
        self._closed_loop = closed_loop
        self._began = time.perf_counter()

    async def quiet(self) -> None:
        """Return when nothing is under way."""
        while len(self.free) < _CONNECTIONS:  # noqa: ASYNC110 - polled in seconds without load
            await asyncio.sleep(0.01)


async def measure(port: int, token: str, api: int) -> None:
    """The three phases."""
    body = orjson.dumps(_MAIL)
    head = f"POST /emails HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    load = Load(port, head.encode() + body)
    for _ in range(_CONNECTIONS):
        load.connect()
    await load.quiet()
    await load.closed(2, connections=16)  # warm
    peak = max([len((await load.closed(3, connections=n)).seconds[_OK]) / 3 for n in (16, 32, 64)])
    say(f"peak, closed loop: {peak:,.0f} accepts/s; memory {resident(api):,.0f} MB")
    seconds = 10
    tally = await load.open(seconds, rate=3 * peak)
    goodput = len(tally.seconds.get(_OK, [])) / seconds
    refused = {status: len(all_of) for status, all_of in tally.seconds.items() if status != _OK}
    say(f"three times that:  {goodput:,.0f} accepts/s = {goodput / peak:.0%} of it; memory {resident(api):,.0f} MB")
    say(f"  accepted p50 {tally.quantile(200, 0.5):.0f} ms, p99 {tally.quantile(200, 0.99):.0f} ms")
    for status, count in refused.items():
        say(
            f"  refused {status}: {count:,}, p50 {tally.quantile(status, 0.5):.1f} ms, "
            f"p99 {tally.quantile(status, 0.99):.1f} ms"
        )
    say(f"  not sent for want of a free connection: {tally.unsent:,}")
    after = await load.open(8, rate=peak / 2)
    load.end()
    bad = [second for (second, status) in after.answered_at if status != _OK]
    say(f"half the peak:     p99 {after.quantile(200, 0.99):.0f} ms; last refusal in second {max(bad, default=-1) + 1}")


def resident(pid: int) -> float:
    """Megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


@contextmanager
def api(folder: Path, redis_url: str, port: int) -> Iterator[int]:
    """An API process; its id."""
    variables = environment(
        folder,
        redis_url=redis_url,
        api_port=str(port),
        verified_domains_only="false",
        refuse_reserved_recipients="false",
        secret="x" * 32,
    )
    with (
        (folder / "api.log").open("wb") as log,
        subprocess.Popen(  # noqa: S603 - our own words
            [*NIGHTMAIL, "api"], env=variables, stderr=log, stdout=log
        ) as process,
    ):
        try:
            yield process.pid
        finally:
            process.terminate()


async def run(folder: Path, redis_url: str) -> None:
    """A key, a server, the phases."""
    settings = Settings(data_dir=folder, redis_url=redis_url)
    redis = redis_async(settings, timeout=5)
    _, token = await PolicyStore(redis, settings).create_key("bench", rate_limit=1_000_000)
    await redis.aclose()
    port = free_port()
    with api(folder, redis_url, port) as pid:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        await measure(port, token, pid)


def say(words: str) -> None:
    """For people."""
    print(words, flush=True)  # noqa: T201


def main() -> None:
    """Start the servers, measure, stop them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ValkeyServer(Path(folder) / "valkey") as server,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(run(Path(folder), server.url()))


if __name__ == "__main__":
    main()
