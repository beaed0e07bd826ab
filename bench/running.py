"""A running stack in front of a sink, in a folder that is gone afterwards."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.plan import Plan
from bench.sink import Sink
from bench.stack import Nightmail


@contextmanager
def running(plan: Plan, **settings: str) -> Iterator[tuple[Nightmail, Sink]]:
    """Our stack with what the row sets and what the command line sets."""
    with (
        tempfile.TemporaryDirectory(prefix="nightmail-bench-") as folder,
        Sink() as sink,
        Nightmail(Path(folder) / "nightmail", sink.port, **settings | plan.of_stack) as stack,
    ):
        yield stack, sink


@contextmanager
def no_delivery(stack: Nightmail) -> Iterator[None]:
    """The workers stand still in this block, and deliver from its end on."""
    workers = [pid for name, pid in stack.roots().items() if name.startswith("worker")]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
