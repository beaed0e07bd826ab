"""What large mail costs small mail that one API process takes beside it.

Mails of 4 KB, 50 a second, open loop, by HTTP: first alone, then beside four clients that send 25 MB each, one after
the other without pause, to the same process; with large contents beside the queue, and with all of them in it.
"""

import asyncio
import base64
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, cast

import orjson

from bench.content import text
from bench.figures import Figure, told
from bench.http_load import OK, Tally, post
from bench.plan import Plan, Tell
from bench.probes import in_loop, loading
from bench.rows.overload import answers, api, make_token
from tests.fixtures.valkey import ValkeyServer, free_port
from tests.fixtures.waiting import until_sync

ROWS = {"large-mail": "small mail beside large mail, in one API process"}
(_ROW,) = ROWS

_RATE = 50.0
_SECONDS = 8.0
_CLIENTS = 4
_CONNECTIONS = 100
_FILE = 18_500_000  # octets, 25 MB in base64
_SMALL = {"from": "a@acme.test", "to": "b@there.test", "subject": "Small", "text": text(3_800).decode()}

# 127.1 is 127.0.0.1 to the system, and another machine to us: then large contents stay in the queue.
_PLACES = {"beside the queue": "127.0.0.1", "in the queue": "127.1"}


def send_large(port: int, token: str) -> None:
    """Until somebody ends this process; a line for each answer."""
    content = base64.b64encode(random.Random(1).randbytes(_FILE)).decode()  # noqa: S311 - no secret
    mail = {"from": "a@acme.test", "to": "b@there.test", "subject": "Large", "text": "x"}
    body = orjson.dumps(mail | {"attachments": [{"filename": "a.bin", "content": content}]})

    def one_client() -> None:
        connection = HTTPConnection("127.0.0.1", port)
        while True:
            connection.request("POST", "/emails", body, {"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            sys.stdout.write(f"{answer.status}\n")
            sys.stdout.flush()

    for _ in range(_CLIENTS):
        threading.Thread(target=one_client).start()


@contextmanager
def _large_senders(port: int, token: str) -> Iterator[list[str]]:
    """Them, in a process of their own; at the end the statuses that they got."""
    statuses: list[str] = []
    command = [sys.executable, "-m", "bench.rows.large_mail", str(port), token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own words
        output = cast("IO[str]", process.stdout)
        output.readline()  # all of it is warm
        try:
            yield statuses
        finally:
            process.kill()
            statuses += output.read().split()


async def _loads(port: int, token: str, name: str, tell: Tell) -> list[Figure]:
    async with loading(port, post("/emails", token, _SMALL), _CONNECTIONS) as load:
        await load.open(2, rate=_RATE)  # warm
        alone = await load.open(_SECONDS, rate=_RATE)
        with _large_senders(port, token) as statuses:
            beside = await load.open(_SECONDS, rate=_RATE)
    tell(f"{name}: answers to large mail: { {status: statuses.count(status) for status in set(statuses)} }")
    return [*_figures(f"{name}: alone", alone), *_figures(f"{name}: beside 25 MB", beside)]


def _figures(what: str, tally: Tally) -> list[Figure]:
    return [told(_ROW, f"{what}, p{share * 100:g}", [tally.quantile(OK, share)], unit="ms") for share in (0.5, 0.99)]


def measure(_: Plan, tell: Tell) -> list[Figure]:
    """Start the servers, measure, stop them; twice."""
    figures: list[Figure] = []
    for name, host in _PLACES.items():
        with tempfile.TemporaryDirectory() as folder, ValkeyServer(Path(folder) / "valkey") as server:
            url, port = server.url().replace("127.0.0.1", host), free_port()
            token = asyncio.run(make_token(Path(folder), url))
            with api(Path(folder), url, port):
                until_sync(lambda port=port: answers(port))  # type: ignore[misc]
                figures += in_loop(_loads(port, token, name, tell))
    return figures


if __name__ == "__main__":
    send_large(int(sys.argv[1]), sys.argv[2])
