"""A worker process: an RQ worker on one queue. The drain's event loop outlives the jobs that lend it time."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from functools import partial
from types import FrameType

import uvloop
from redis import Redis
from rq.exceptions import StopRequested

from outbox.journal import Journal, own_journal
from outbox.policy import Policy
from outbox.queue import Outbox
from outbox.sender_domain import Hosts
from runtime import clock
from runtime.connections import StoreError, redis_async, redis_sync
from runtime.garbage import collect_seldom
from runtime.logs import get
from runtime.sealing import Seal
from runtime.settings import Settings
from worker import routes
from worker.audits import Audits
from worker.channel import Parts
from worker.dialer import Dialer
from worker.domain_checks import DomainChecks
from worker.drain import Drain
from worker.finisher import Finisher
from worker.pool import Pool
from worker.rq_worker import TickWorker
from worker.session import Opener, TlsContexts
from worker.signer import Signer
from worker.ticks import queue, top_up_drain, top_up_webhooks

log = get(__name__)

GRACE = 25.0  # seconds that a stop waits for deliveries under way
QUEUE_REPLY = 2.0  # seconds that a call of the drain waits for the queue's reply
FIRST = 0.25  # seconds of work before RQ is asked for some: after a restart mail waits, and what RQ does can wait
REDIAL = 0.5  # seconds between two tries to reach the queue

_current: ContextVar["Process"] = ContextVar("process")


def current() -> "Process":
    """The process that runs the job. Raises LookupError outside one."""
    return _current.get()


class Process:
    """What the jobs of one process share. `lend` runs its loop for some seconds; None in a process for chores."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self.settings = settings
        self.redis = redis
        self.stopping = False
        self.worker: TickWorker | None = None
        self.lend: Callable[[float], None] | None = None
        self.top_up: Callable[[], int] = lambda: 0  # puts a tick for whoever is free next
        self.on_stop: Callable[[], None] = lambda: None
        self.audits = Audits(settings)
        self.domain_checks = DomainChecks(settings)

    def work_slice(self) -> None:
        """The job of drains and webhooks: a slice, and then a tick for whoever is free next."""
        if self.lend is None:
            raise LookupError("this process has no loop")
        self.lend(self.settings.drain_slice.total_seconds())
        if not self.stopping:
            self.top_up()

    def stop(self, *_: int | FrameType | None) -> None:
        """Ask everything to end. Safe in a signal handler."""
        self.stopping = True
        self.on_stop()
        if self.worker is None:  # still starting, perhaps waiting for the queue
            raise SystemExit(0)
        self.worker.request_stop()


def run(settings: Settings, queue_name: str) -> None:
    """Work on `drain`, `webhooks` or `chores` until SIGTERM.

    A drain worker has the number of the journal it found free, so one that was killed comes back under its own name.
    """
    collect_seldom()
    process = Process(settings, redis_sync(settings))
    _current.set(process)
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, process.stop)
    if queue_name == "drain":
        journal, number = own_journal(settings.data_dir / "journal", queue_name)
        _run_drain(process, f"{settings.node}:{queue_name}:{number}", journal)
    elif queue_name == "webhooks":
        _run_webhooks(process, f"{settings.node}:{queue_name}:{os.getpid()}")
    else:
        _serve(process, queue_name, f"{settings.node}:{queue_name}", between=lambda: time.sleep(REDIAL))


def _run_drain(process: Process, name: str, journal: Journal) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        log.info("worker.started", worker=name)
        life = AsyncExitStack()
        drain = runner.run(life.enter_async_context(delivering(process.settings, name, journal)))
        process.lend = lambda seconds: runner.run(drain.slice(seconds))
        process.top_up = partial(top_up_drain, queue(process.redis, process.settings, "drain"), process.settings)
        process.on_stop = partial(_call, runner.get_loop(), drain.end)
        try:
            runner.run(drain.slice(FIRST))
            _serve(process, "drain", name, between=lambda: runner.run(drain.slice(REDIAL)))
        finally:
            runner.run(life.aclose())
            log.info("worker.stopped", worker=name)


def _run_webhooks(process: Process, name: str) -> None:
    from worker.webhooks import telling  # noqa: PLC0415 - a drain starts sooner without an HTTP client

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        log.info("worker.started", worker=name)
        life = AsyncExitStack()
        lanes = runner.run(life.enter_async_context(telling(process.settings)))
        process.lend = lambda seconds: runner.run(lanes.slice(seconds))
        process.top_up = partial(top_up_webhooks, queue(process.redis, process.settings, "webhooks"))
        process.on_stop = partial(_call, runner.get_loop(), lanes.end)
        try:
            _serve(process, "webhooks", name, between=lambda: runner.run(lanes.slice(REDIAL)))
        finally:
            runner.run(life.aclose())
            log.info("worker.stopped", worker=name)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)


@asynccontextmanager
async def delivering(settings: Settings, name: str, journal: Journal, *, grace: float = GRACE) -> AsyncIterator[Drain]:
    """A drain at work under this worker's name; stopped, with its journal closed, afterwards."""
    async with (
        redis_async(settings, timeout=QUEUE_REPLY) as redis,
        redis_async(settings, timeout=2 * QUEUE_REPLY) as waiting,
    ):
        outbox = Outbox(redis, settings, waiting=waiting)
        opener = Opener(settings.smtp_hostname, tls=TlsContexts.default())
        dialer = Dialer(routes.from_settings(settings), opener, Pool(most=settings.worker_connections))
        finisher = Finisher(outbox, journal, worker=name)
        policy = Policy(redis, settings)
        signer = Signer(policy, Seal.from_settings(settings), hosts=Hosts.from_settings(settings), now=clock.now)
        parts = Parts(outbox, finisher, settings, signer, worker=name, now=clock.now, jitter=random.random)
        drain = Drain(parts, dialer)
        await policy.start()
        try:
            await drain.start()
            yield drain
        finally:
            await drain.stop(grace)
            signer.stop()
            await policy.stop()
            await journal.close()


def _serve(process: Process, queue_name: str, name: str, *, between: Callable[[], None]) -> None:
    """Take ticks. RQ's worker ends on many an error; `between` two of its lives, the drain works on."""
    ticks = queue(process.redis, process.settings, queue_name)
    while not process.stopping:
        try:
            if process.lend is not None:  # the ticker would put the tick that our earlier life died with: in a second
                top_up_drain(ticks, process.settings)
            process.worker = TickWorker(ticks, name, process.redis)
            if process.stopping:  # by a signal that came before there was a worker to stop
                break
            process.worker.work(logging_level="WARNING")
        except StopRequested:
            break
        except StoreError as error:
            log.warning("worker.queue_lost", worker=name, error=f"{type(error).__name__}: {error}"[:200])
        if not process.stopping:
            between()
