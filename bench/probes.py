"""The loads that are put on a side, each measured once: what a round consists of."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import uvloop

from bench import http_load, processor, smtp_load
from bench.content import text
from bench.figures import quantile
from bench.http_load import Load, post
from bench.sink import Sink
from bench.stack import Nightmail
from outbox.tail import Tail
from runtime.connections import redis_sync
from tests.fixtures.waiting import until_sync

SESSIONS = 20  # SMTP
CONNECTIONS = 32  # HTTP
BATCH = 100  # mails of one POST /emails/batch
_BATCHES_AT_ONCE = 4
_WARM = 200  # mails before anything is measured
_ALONE = 60  # mails of a round that are sent one at a time
_REST = 0.05  # seconds between two of them
_HALF_LOAD_SECONDS = 4.0
_KNOWN = 2.0  # seconds within which every process knows a new domain
_PATIENCE = 240.0  # seconds for a load to arrive
_TEXT = text(smtp_load.SIZE).decode().replace("\r\n", "\n")

Measured = dict[str, list[float]]
T = TypeVar("T")


class Side(Protocol):
    """Postfix or Nightmail, running."""

    name: str
    smtp_port: int

    def roots(self) -> dict[str, int]:
        """The processes whose time counts, by name."""
        ...


def warm(side: Side, sink: Sink) -> None:
    """Start what starts at the first mail."""
    submit(side, sink, _WARM)
    calm(side)


def calm(side: Side) -> None:
    """Wait until our side has recorded what it delivered, so that this does not count against the next load."""
    if isinstance(side, Nightmail):
        deadline = time.monotonic() + _PATIENCE
        while side.get("/backlog")["recorder"]["behind"]:
            if time.monotonic() > deadline:
                raise TimeoutError("The recorder does not catch up")
            time.sleep(0.1)


def submit(side: Side, sink: Sink, mails: int, *, sessions: int = SESSIONS) -> tuple[float, float]:
    """Mails accepted and delivered per second, by SMTP."""
    target = sink.count + mails
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(smtp_load.send_many, side.smtp_port, mails, sessions=sessions)
        delivered = sink.wait_for(target, seconds=_PATIENCE)
        began, accepted = sending.result()
    return mails / (accepted - began), mails / (delivered - began)


def smtp(side: Side, sink: Sink, mails: int) -> Measured:
    """A load by SMTP, and the processor time that a mail of it took."""
    before, began = processor.seconds_by_family(side.roots()), time.perf_counter()
    accepted, delivered = submit(side, sink, mails)
    rates = {"accepted": [accepted], "delivered": [delivered], "recorded": [_recorded(side, mails, began)]}
    return rates | _spent("smtp", side, before, mails)


def idle(side: Side, sink: Sink) -> Measured:
    """One mail at a time: milliseconds from MAIL to our 250, and to the sink's."""
    accepted, delivered = [], []
    sink.is_exact = True
    with smtp_load.OneAtATime(side.smtp_port) as client:
        for number in range(_ALONE):
            target = sink.count + 1
            began = client.send(number)
            accepted.append((time.perf_counter() - began) * 1000)
            delivered.append((sink.wait_for(target, seconds=30) - began) * 1000)
            time.sleep(_REST)
    sink.is_exact = False
    return {"idle accept": accepted, "idle": delivered}


def http(stack: Nightmail, sink: Sink, mails: int) -> Measured:
    """POST /emails: what is accepted per second, and the answer's time at half of that."""
    before = processor.seconds_by_family(stack.roots())

    async def both() -> Measured:
        async with loading(stack.api_port, one(stack), CONNECTIONS) as load:
            tally = await load.count(mails, connections=CONNECTIONS)
            tally.demand_all(mails)
            rate = mails / tally.took
            await asyncio.to_thread(arrived, stack, sink)
            spent = _spent("http", stack, before, mails)
            half = await load.open(_HALF_LOAD_SECONDS, rate=rate / 2)
            seconds = half.seconds[http_load.OK]
        return {
            "http": [rate],
            "half p50": [quantile(seconds, 0.5) * 1000],
            "half p99": [quantile(seconds, 0.99) * 1000],
            "half refused": [half.unsent + sum(len(all_of) for all_of in half.seconds.values()) - len(seconds)],
            **spent,
        }

    measured = in_loop(both())
    arrived(stack, sink)
    return measured


def batch(stack: Nightmail, sink: Sink, mails: int) -> Measured:
    """POST /emails/batch of a hundred mails each: delivered per second."""
    requests = -(-mails // BATCH)
    request = post("/emails/batch", stack.token, [_mail(number) for number in range(BATCH)])
    mails = requests * BATCH
    target = sink.count + mails
    before = processor.seconds_by_family(stack.roots())

    async def send() -> float:
        async with loading(stack.api_port, request, _BATCHES_AT_ONCE) as load:
            began = time.perf_counter()
            tally = await load.count(requests, connections=_BATCHES_AT_ONCE)
        tally.demand_all(requests, BATCH)
        return began

    began = in_loop(send())
    delivered = mails / (sink.wait_for(target, seconds=_PATIENCE) - began)
    rates = {"batch": [delivered], "batch recorded": [_recorded(stack, mails, began)]}
    return rates | _spent("batch", stack, before, mails)


def signed(stack: Nightmail, sink: Sink, mails: int) -> Measured:
    """A load by SMTP from a domain that has keys: RSA with 2048 bits, and Ed25519."""
    stack.make_domain(smtp_load.SENDER.partition("@")[2])
    time.sleep(_KNOWN)
    warm(stack, sink)
    before = processor.seconds_by_family(stack.roots())
    delivered = submit(stack, sink, mails)[1]
    calm(stack)
    return {"signed": [delivered], **_spent("signed", stack, before, mails)}


@asynccontextmanager
async def loading(port: int, request: bytes, connections: int) -> AsyncIterator[Load]:
    """Connections for a block."""
    load = Load(port, lambda _: request)
    await load.connect(connections)
    try:
        yield load
    finally:
        load.end()


def one(stack: Nightmail) -> bytes:
    """The request of one mail."""
    return post("/emails", stack.token, _mail(0))


def arrived(stack: Nightmail, sink: Sink) -> None:
    """Wait until nothing waits in the queue and all is recorded."""
    deadline = time.monotonic() + _PATIENCE
    while (now := stack.get("/backlog"))["depth"] or now["in_flight"]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{now['depth']} mails still wait; the sink had {sink.count}")
        time.sleep(0.1)
    calm(stack)


def archived(stack: Nightmail, *, fewer_than: int = 1) -> None:
    """Wait until fewer events than that are not archived."""
    settings = stack.settings()
    with redis_sync(settings) as redis:
        tail = Tail(redis, settings.queue_prefix)
        until_sync(lambda: tail.newest() - tail.archived() < fewer_than, seconds=_PATIENCE)


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a quick event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _recorded(side: Side, mails: int, began: float) -> float:
    """Mails per second until the history has them, from which it stands back while they are delivered."""
    calm(side)
    return mails / (time.perf_counter() - began)


def _spent(load: str, side: Side, before: dict[str, float], mails: int) -> Measured:
    """Milliseconds of processor time a mail of this load, in all and by process."""
    used = processor.since(before, processor.seconds_by_family(side.roots()))
    by_process = {f"{load} cpu {name}": [seconds * 1000 / mails] for name, seconds in used.items()}
    return {f"{load} cpu": [sum(used.values()) * 1000 / mails], **by_process}


def _mail(number: int) -> dict[str, str]:
    return {"from": smtp_load.SENDER, "to": f"{number}{smtp_load.RECIPIENT}", "subject": "One", "text": _TEXT}
