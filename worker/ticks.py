"""How ticks get into RQ's queues: names, options, and never more of them than there are workers to take them."""

from redis import Redis
from rq import Queue, Worker
from rq.serializers import JSONSerializer

from runtime.settings import Settings

DRAIN = "worker.jobs.drain"
WEBHOOKS = "worker.jobs.webhooks"
CHORES = {  # seconds between two ticks, each of which costs the queue twenty writes of RQ's
    "worker.jobs.archive": 4.0,
    "worker.jobs.retire": 10.0,
    "worker.jobs.domains": 4.0,
    "worker.jobs.audit": 300.0,
    "worker.jobs.suppressions": 600.0,
}

FAILURE_TTL = 300  # seconds a failed tick can be looked at
NO_TIMEOUT = -1  # RQ's timeout would raise from a signal in the middle of the loop


def queue(redis: Redis, settings: Settings, name: str) -> Queue:
    """RQ's queue of that name. In JSON: with pickle, whoever writes to Redis runs code in a worker."""
    return Queue(f"{settings.queue_prefix}-{name}", connection=redis, serializer=JSONSerializer)


def tick(to: Queue, job: str) -> None:
    """Put one tick. No Retry: the ticker replaces what is lost within a second, sooner than RQ would find it."""
    to.enqueue(job, job_timeout=NO_TIMEOUT, result_ttl=0, failure_ttl=FAILURE_TTL, description=job)


def top_up_drain(drain: Queue, settings: Settings) -> int:
    """One waiting tick for each worker, so that no gap follows a slice; how many were missing."""
    return _top_up(drain, DRAIN, max(settings.workers, Worker.count(queue=drain)))


def top_up_webhooks(webhooks: Queue) -> int:
    """The same for the workers that tell webhooks."""
    return _top_up(webhooks, WEBHOOKS, max(1, Worker.count(queue=webhooks)))


def _top_up(to: Queue, job: str, workers: int) -> int:
    missing = max(0, workers - to.count)
    for _ in range(missing):
        tick(to, job)
    return missing
