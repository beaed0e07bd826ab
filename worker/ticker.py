"""The ticker: sees to it, each second, that RQ's queues hold the ticks they should. Survives any loss of the queue.

RQ's own cron is not used: it always enqueues with pickle (docs/decisions/0006-ticks-not-rq-cron.md).
"""

import signal
import threading
import time
from collections.abc import Callable

from redis import Redis

from runtime.connections import StoreError, redis_sync
from runtime.logs import get
from runtime.settings import Settings
from worker.ticks import CHORES, queue, tick, top_up_drain, top_up_webhooks

log = get(__name__)

EVERY = 1.0  # seconds


class Ticker:
    """Knows when each chore was last due."""

    def __init__(self, redis: Redis, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._drain = queue(redis, settings, "drain")
        self._webhooks = queue(redis, settings, "webhooks")
        self._chores = queue(redis, settings, "chores")
        self._clock = clock
        self._due = dict.fromkeys(CHORES, 0.0)
        self._lost = False

    def beat(self) -> None:
        """Put what is missing. A queue that is away is tried again at the next beat."""
        try:
            top_up_drain(self._drain, self._settings)
            top_up_webhooks(self._webhooks)
            self._put_chores()
        except StoreError as error:
            if not self._lost:
                log.warning("ticker.queue_lost", error=f"{type(error).__name__}: {error}"[:200])
            self._lost = True
        else:
            if self._lost:
                log.info("ticker.queue_back")
            self._lost = False

    def _put_chores(self) -> None:
        now = self._clock()
        if self._chores.count >= len(CHORES):  # nobody takes them: more would only pile up
            return
        for chore, every in CHORES.items():
            if now >= self._due[chore]:
                tick(self._chores, chore)
                self._due[chore] = now + every


def run(settings: Settings) -> None:
    """Beat until SIGTERM or SIGINT."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    ticker = Ticker(redis_sync(settings), settings)
    log.info("ticker.started")
    while not stopped.is_set():
        ticker.beat()
        stopped.wait(EVERY)
    log.info("ticker.stopped")
