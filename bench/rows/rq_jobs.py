"""Our path against the plain one: one RQ job per message that opens a connection, sends, and closes it.

The same Valkey, as durable, the same mail, the same sink, one worker each. The jobs wait in the queue when the worker
starts; so do our mails. Only ours has leases, receipts, retries and a history.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rq import Queue

from bench import one_job, probes
from bench.figures import Figure, at_least, ratios, told
from bench.filling import fill, submission
from bench.plan import Plan, Tell
from bench.running import no_delivery, running
from bench.sink import Sink
from bench.smtp_load import SENDER, SIZE
from nightmail.leash import leashed
from tests.fixtures.valkey import ValkeyServer

ROWS = {"rq-jobs": "delivered/s against one RQ job per message"}
(_ROW,) = ROWS

_JOBS = 200
_LEAD_IN = 20  # deliveries before the rate counts
_DOMAIN = "dest.test"
_ROOT = Path(__file__).resolve().parent.parent.parent


def measure(plan: Plan, tell: Tell) -> list[Figure]:
    """By turns."""
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(plan.rounds):
        with tempfile.TemporaryDirectory() as folder, Sink() as sink, ValkeyServer(Path(folder) / "valkey") as valkey:
            theirs.append(_by_jobs(valkey, sink))
        with running(plan) as (stack, sink):
            probes.warm(stack, sink)
            with no_delivery(stack):
                fill(stack.settings(), plan.mails, domains=(_DOMAIN,), size=SIZE)
                probes.calm(stack)
                first = sink.count
            ours.append(_rate(sink, first, plan.mails))
        tell(f"round {number + 1}: RQ jobs {theirs[-1]:,.0f}/s, Nightmail {ours[-1]:,.0f}/s")
    return [
        at_least(_ROW, "delivered/s to that of RQ jobs", 10, ratios(ours, theirs)),
        told(_ROW, "Nightmail, delivered", ours, unit="/s"),
        told(_ROW, "one RQ job per message, delivered", theirs, unit="/s"),
    ]


def _by_jobs(valkey: ValkeyServer, sink: Sink) -> float:
    with valkey.client() as redis:
        queue = Queue("mail", connection=redis)
        for number in range(_JOBS):
            mail = submission(_DOMAIN, SIZE, number)
            queue.enqueue(one_job.deliver, sink.port, SENDER, mail.message.to[0], mail.content)
        with _worker(valkey):
            return _rate(sink, 0, _JOBS)


@contextmanager
def _worker(valkey: ValkeyServer) -> Iterator[None]:
    """RQ's own, as its documentation says."""
    words = [sys.executable, "-m", "rq.cli", "worker", "mail", "--url", valkey.url(), "--quiet"]
    with subprocess.Popen(leashed(words), cwd=_ROOT, start_new_session=True) as process:  # noqa: S603 - our own words
        try:
            yield
        finally:
            process.terminate()


def _rate(sink: Sink, first: int, mails: int) -> float:
    before, began = sink.look(first + _LEAD_IN, seconds=60)
    after, ended = sink.look(first + mails, seconds=240)
    return (after - before) / (ended - began)
