"""Does a long queue slow delivery down, or the answer that tells how long it is?

The workers stand still while the queue is filled; what counts is the rate at which they work it off afterwards. The
database is stopped for all sizes, because to record a million mails takes minutes of the processors; the archive is
waited for. The mails are small, so that a million of them fits into the memory of a small machine.
"""

import time

from bench import probes
from bench.figures import Figure, at_least, at_most, told
from bench.filling import fill
from bench.plan import Plan, Tell
from bench.running import no_delivery, running
from bench.sink import Sink
from bench.stack import Nightmail

ROWS = {"backlog": "delivered/s and GET /backlog with a million mails waiting, against a thousand"}
(_ROW,) = ROWS

_SMALL = 1_000
_SIZE = 400  # octets of a mail
_DOMAINS = tuple(f"d{number}.test" for number in range(10))
_LEAD_IN = 100  # deliveries before a window begins: connections open
_WINDOW = 800  # deliveries
_WINDOWS = 20
_LOOKS = 15  # at GET /backlog
_OPEN = 5_000  # events: all but a last segment are archived before deliveries are looked at


def measure(plan: Plan, tell: Tell) -> list[Figure]:
    """By backlog size: deliveries a second, and milliseconds of an answer."""
    sizes = sorted({_SMALL, plan.backlog // 10, plan.backlog})
    rates: dict[int, list[float]] = {}
    looks: dict[int, list[float]] = {}
    for size in sizes:
        with running(plan) as (stack, sink):
            probes.warm(stack, sink)
            stack.switch_database("down")
            rates[size], looks[size] = (_of_small if size == _SMALL else _of_large)(stack, sink, size, tell)
        tell(f"{size:,} waiting: {_median(rates[size]):,.0f}/s, GET /backlog {_median(looks[size]):.1f} ms")
    most, least = sizes[-1], _SMALL
    return [
        at_least(_ROW, f"delivered/s, {most:,} to {least:,}", 0.9, [_median(rates[most]) / _median(rates[least])]),
        at_most(_ROW, f"GET /backlog, {most:,} to {least:,}", 2, [_median(looks[most]) / _median(looks[least])]),
        *(told(_ROW, f"delivered, {size:,} waiting", rates[size], unit="/s") for size in sizes),
        *(told(_ROW, f"GET /backlog, {size:,} waiting", looks[size], unit="ms", digits=1) for size in sizes),
    ]


def _of_small(stack: Nightmail, sink: Sink, size: int, _: Tell) -> tuple[list[float], list[float]]:
    """It is worked off within one window: as often filled as there are windows."""
    rates: list[float] = []
    looks: list[float] = []
    for _turn in range(_WINDOWS):
        with no_delivery(stack):
            fill(stack.settings(), size, domains=_DOMAINS, size=_SIZE)
            looks += _looks(stack)
            first = sink.count
        rates.append(_window(sink, first))
        sink.wait_for(first + size, seconds=60)
    return rates, looks


def _of_large(stack: Nightmail, sink: Sink, size: int, tell: Tell) -> tuple[list[float], list[float]]:
    with no_delivery(stack):
        began = time.perf_counter()
        fill(stack.settings(), size, domains=_DOMAINS, size=_SIZE)
        filled = time.perf_counter()
        probes.archived(stack, fewer_than=_OPEN)
        tell(f"{size:,} mails put in in {filled - began:.0f} s, archived {time.perf_counter() - filled:.0f} s later")
        looks = _looks(stack)
        first = sink.count
    rates = []
    for _turn in range(min(_WINDOWS, size // _SMALL)):
        rates.append(_window(sink, first))
        first = sink.count
    return rates, looks


def _window(sink: Sink, first: int) -> float:
    """Deliveries a second, less the lead-in."""
    before, began = sink.look(first + _LEAD_IN, seconds=60)
    after, ended = sink.look(before + _WINDOW, seconds=60)
    return (after - before) / (ended - began)


def _looks(stack: Nightmail) -> list[float]:
    took = []
    for _ in range(_LOOKS):
        began = time.perf_counter()
        stack.get("/backlog")
        took.append((time.perf_counter() - began) * 1000)
    return took[3:]  # the first ones warm up


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
