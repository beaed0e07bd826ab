"""The pure parts of the measurements: what counts as met, whose processor time, and how results are published."""

import asyncio
import os
import subprocess
import sys

import orjson
import pytest

from bench import catalogue, figures, processor
from bench.http_load import Load, post
from bench.publish import _share, _table
from bench.report import as_json


def test_the_median_of_the_rounds_is_held_against_the_bound():
    """One good round does not make up for two bad ones, nor one bad round spoil two good ones."""
    assert figures.at_least("r", "x", 2.5, [9, 2.4, 2.4]).met is False
    assert figures.at_least("r", "x", 2.5, [0.1, 2.5, 2.6]).met is True
    assert figures.at_most("r", "x", 1, [1, 1, 7]).met is True
    assert figures.at_most("r", "x", 1, [1.1, 1.1, 0]).met is False
    assert figures.told("r", "x", [1, 2, 4], unit="/s").measured == "2 /s (1 to 4)"


def test_quantiles_and_ratios():
    """A p99 of few values is the largest; a ratio belongs to its round."""
    assert figures.quantile([3, 1, 2], 0.99) == 3
    assert figures.quantile(range(1, 101), 0.5) == 51
    assert figures.ratios([4, 9], [2, 3]) == [2, 3]


def test_processor_time_counts_children_that_have_ended():
    """What a short-lived child burns is its family's."""
    before = processor.seconds_by_family({"we": os.getpid()})
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    spent = processor.since(before, processor.seconds_by_family({"we": os.getpid()}))
    assert spent["we"] >= 0.25


def test_every_row_is_known_once():
    """The rows with a bound are those that run when nobody names one."""
    assert set(catalogue.USUAL) < set(catalogue.ROWS)
    assert {"smtp", "http", "batch", "idle", "database", "backlog"} <= set(catalogue.USUAL)


def test_published_figures_say_what_was_met():
    """The table of the page carries the verdicts; the plot's share is above 1 where a bound is met."""
    found = [figures.at_least("smtp", "ratio", 2, [3]), figures.at_most("idle", "p50", 2, [4])]
    rows = orjson.loads(as_json(found, machine="2 cores", at="2026-11-22"))["figures"]
    page = _table({row["row"]: ("2026-11-22, 2 cores", [row]) for row in rows})
    assert "| `smtp` | ratio | >= 2 x | 3.00 x | met |" in page
    assert "| `idle` | p50 | <= 2 x | 4.00 x | **not met** |" in page
    assert [_share(row) for row in rows] == [1.5, 0.5]


class Answers(asyncio.Protocol):
    """Gives the next id to each request."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert data.startswith(b"POST /emails HTTP/1.1\r\n")
        body = orjson.dumps({"id": self.ids.pop()})
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(("ids", "complaint"), [(["a", "b", "c", "d"], None), (["a", "a", "b", "c"], "3 ids")])
async def test_the_client_counts_answers_and_their_ids(ids: list[str], complaint: str | None):
    """It sends as many requests as it was told, over its connections, and notices an id that comes twice."""
    server = await asyncio.get_running_loop().create_server(lambda: Answers(ids), "127.0.0.1", 0)
    async with server:
        request = post("/emails", "re_x", {"text": "hello"})
        load = Load(server.sockets[0].getsockname()[1], lambda _: request)
        await load.connect(2)
        tally = await load.count(4, connections=2)
        load.end()
    if complaint is None:
        tally.demand_all(4)
    else:
        with pytest.raises(ValueError, match=complaint):
            tally.demand_all(4)
