"""How fast our own HTTP client could go: against a server that answers without looking."""

import asyncio

from bench import probes
from bench.content import text
from bench.figures import Figure, told
from bench.http_load import post
from bench.plan import Plan, Tell

ROWS = {"client": "ceiling of the HTTP client itself, against a server that only answers"}
(_ROW,) = ROWS

_REQUESTS = 20_000
_ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 45\r\n\r\n{"id":"019e0000-0000-7000-8000-000000000000"}'


class _Trivial(asyncio.Protocol):
    """Takes a request by its length."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._missing = length

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._missing <= 0:
            self._missing += self._length
            self._transport.write(_ANSWER)  # type: ignore[attr-defined]


def measure(plan: Plan, tell: Tell) -> list[Figure]:
    """Requests a second with both in one process, so that this is the least the client can do."""
    request = post("/emails", "re_token", {"text": text(4096).decode()})

    async def run() -> float:
        server = await asyncio.get_running_loop().create_server(lambda: _Trivial(len(request)), "127.0.0.1", 0)
        async with server, probes.loading(server.sockets[0].getsockname()[1], request, probes.CONNECTIONS) as load:
            tally = await load.count(_REQUESTS, connections=probes.CONNECTIONS)
        return _REQUESTS / tally.took

    rates = [probes.in_loop(run()) for _ in range(plan.rounds)]
    tell(f"client and trivial server: {max(rates):,.0f} requests/s")
    return [told(_ROW, "client and trivial server in one process", rates, unit="/s")]
