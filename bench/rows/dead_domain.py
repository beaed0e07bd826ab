"""Does one dead domain delay the mail of others? Its host takes connections and says nothing, the worst kind.

Both are address literals on loopback, so that the route is that of production (`mx`) without any DNS. Their port is
25, which only root may bind.
"""

import asyncio
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import probes
from bench.figures import Figure, at_most, quantile, ratios, told
from bench.filling import fill, put_one
from bench.plan import Plan, Tell
from bench.sink import Sink
from bench.stack import Nightmail
from outbox.queue import Outbox
from runtime.connections import redis_async

ROWS = {"dead-domain": "delay of other lanes' mail behind 200,000 mails for one dead domain"}
(_ROW,) = ROWS

_PORT = 25
_SIZE = 400  # octets of a mail that waits
_PROBES = 100  # mails of a round, whose delay is taken
_BETWEEN = 0.04  # seconds between two of them
_SETTLE = 3.0  # seconds of trying the dead domain before delays count


def measure(plan: Plan, tell: Tell) -> list[Figure]:
    """Milliseconds from a mail's arrival in the queue to the living host's 250, without the dead mail and behind it."""
    if os.geteuid() != 0:
        tell("dead-domain needs root, to listen on port 25.")
        return []
    living, dead = _addresses()
    with (
        tempfile.TemporaryDirectory(prefix="nightmail-bench-") as folder,
        _silent(dead),
        Sink(living, _PORT) as sink,
        Nightmail(Path(folder) / "nightmail", _PORT, **{"route": "mx"} | plan.of_stack) as stack,
    ):
        sink.is_exact = True
        probes.in_loop(_delays(stack, sink, living, 20))  # warm
        without = [probes.in_loop(_delays(stack, sink, living, _PROBES)) for _ in range(plan.rounds)]
        began = time.perf_counter()
        fill(stack.settings(), plan.dead, domains=(f"[{dead}]",), size=_SIZE)
        probes.calm(stack)
        tell(f"{plan.dead:,} mails for the dead domain, put in and recorded in {time.perf_counter() - began:.0f} s")
        time.sleep(_SETTLE)
        behind = [probes.in_loop(_delays(stack, sink, living, _PROBES)) for _ in range(plan.rounds)]
        waiting = stack.get("/backlog")["depth"]
    return [
        at_most(_ROW, "delay p95, behind them to without", 2, ratios(_each(behind, 0.95), _each(without, 0.95))),
        *(
            told(_ROW, f"delay {word}, {when}", _each(rounds, share), unit="ms", digits=1)
            for share, word in ((0.5, "p50"), (0.95, "p95"))
            for when, rounds in (("without", without), ("behind", behind))
        ),
        told(_ROW, "mails waiting meanwhile", [waiting], unit="mails"),
    ]


def _each(rounds: list[list[float]], share: float) -> list[float]:
    return [quantile(delays, share) for delays in rounds]


async def _delays(stack: Nightmail, sink: Sink, host: str, mails: int) -> list[float]:
    settings = stack.settings()
    redis = redis_async(settings, timeout=5)
    outbox = Outbox(redis, settings)
    delays = []
    for number in range(mails):
        target = sink.count + 1
        began = time.perf_counter()
        await put_one(outbox, f"[{host}]", _SIZE, number)
        delays.append((await asyncio.to_thread(sink.wait_for, target, seconds=60) - began) * 1000)
        await asyncio.sleep(_BETWEEN)
    await redis.aclose()
    return delays


def _addresses() -> tuple[str, str]:
    """Two of loopback's sixteen million that nobody else uses."""
    dice = random.SystemRandom()
    network = f"127.{dice.randrange(1, 255)}.{dice.randrange(1, 255)}"
    return f"{network}.1", f"{network}.2"


@contextmanager
def _silent(host: str) -> Iterator[None]:
    """Connections are taken by the kernel; nobody ever says a word."""
    with socket.create_server((host, _PORT), backlog=512):
        yield
