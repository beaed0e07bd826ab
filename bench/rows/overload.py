"""Three times as many sends as one API process can take.

First the peak, closed loop; then three times that, open loop, so that a slow server is not spared; then half of the
peak, to see how soon all is well again. The load comes from another process than the API; both share the machine.
"""

import asyncio
import resource
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from bench.figures import Figure, at_least, told
from bench.http_load import OK, post
from bench.plan import Plan, Tell
from bench.probes import in_loop, loading
from outbox.policy_store import PolicyStore
from runtime.connections import redis_async
from runtime.settings import Settings
from tests.fixtures.stack import NIGHTMAIL, environment
from tests.fixtures.valkey import ValkeyServer, free_port
from tests.fixtures.waiting import until_sync

ROWS = {"overload": "three times as many sends as one API process can take"}
(_ROW,) = ROWS

_CONNECTIONS = 300
_SECONDS = 10.0
_MAIL = {
    "from": "Acme <on@acme.test>",
    "to": "you@there.test",
    "subject": "Hello",
    "html": "<p>" + "A line of a letter that nobody reads. " * 100 + "</p>",
}


async def _phases(port: int, token: str, api: int, tell: Tell) -> list[Figure]:
    """Peak, three times as much, half of it."""
    async with loading(port, post("/emails", token, _MAIL), _CONNECTIONS) as load:
        await load.closed(2, connections=16)  # warm
        peak = max([len((await load.closed(3, connections=n)).seconds[OK]) / 3 for n in (16, 32, 64)])
        calm = resident(api)
        tell(f"peak, closed loop: {peak:,.0f} accepts/s")
        much = await load.open(_SECONDS, rate=3 * peak)
        loaded = resident(api)
        after = await load.open(8, rate=peak / 2)
    refused = {status: len(all_of) for status, all_of in much.seconds.items() if status != OK}
    tell(f"refused, by status: {refused}; not sent for want of a free connection: {much.unsent:,}")
    goodput = len(much.seconds.get(OK, [])) / _SECONDS
    bad = [second for (second, status) in after.answered_at if status != OK]
    return [
        told(_ROW, "peak, closed loop", [peak], unit="accepts/s"),
        at_least(_ROW, "accepted at three times that, to the peak", 0.9, [goodput / peak]),
        told(_ROW, "  accepted, p50", [much.quantile(OK, 0.5)], unit="ms"),
        told(_ROW, "  accepted, p99", [much.quantile(OK, 0.99)], unit="ms"),
        *(told(_ROW, f"  refused {status}, p99", [much.quantile(status, 0.99)], unit="ms") for status in refused),
        told(_ROW, "  memory beyond that at the peak", [loaded - calm], unit="MB"),
        told(_ROW, "half the peak afterwards, p99", [after.quantile(OK, 0.99)], unit="ms"),
        told(_ROW, "  last refusal in second", [max(bad, default=-1) + 1], unit=""),
    ]


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


async def make_token(folder: Path, redis_url: str) -> str:
    """A key that may send without limit."""
    settings = Settings(data_dir=folder, redis_url=SecretStr(redis_url))
    redis = redis_async(settings, timeout=5)
    _, token = await PolicyStore(redis, settings).create_key("bench", rate_limit=1_000_000)
    await redis.aclose()
    return token


def measure(_: Plan, tell: Tell) -> list[Figure]:
    """Start the servers, measure, stop them."""
    with tempfile.TemporaryDirectory() as name, ValkeyServer(Path(name) / "valkey") as server:
        folder, port = Path(name), free_port()
        token = asyncio.run(make_token(folder, server.url()))
        with api(folder, server.url(), port) as pid:
            until_sync(lambda: answers(port))
            return in_loop(_phases(port, token, pid, tell))


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
