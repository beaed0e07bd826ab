"""RQ's worker as we need it: in-process, one queue, JSON only, a stable name, and a stop that needs no Redis."""

from types import FrameType, TracebackType

from redis import Redis
from rq import Queue, SimpleWorker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.timeouts import BaseDeathPenalty
from rq.worker import WorkerStatus

WORKER_TTL = 30  # seconds; bounds the blocking pop (15 s) and how long a hung Redis goes unnoticed (25 s)
MAINTENANCE = 15  # seconds; RQ's 600 would leave a job of a killed worker in limbo for as long


class Unlimited(BaseDeathPenalty):
    """No job timeout: RQ's is a signal whose handler raises wherever the event loop happens to be."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class TickWorker(SimpleWorker):
    """Runs ticks in this process."""

    death_penalty_class = Unlimited
    max_connection_wait_time = 1.0  # back-off while Redis is away; RQ's 60 s would leave mail waiting after it is back
    log_result_lifespan = False

    def __init__(self, queue: Queue, name: str, redis: Redis) -> None:
        super().__init__(
            [queue],
            name=name,
            connection=redis,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL,
            maintenance_interval=MAINTENANCE,
            log_job_description=False,
        )

    def register_birth(self) -> None:
        """Take the name over from our earlier life. RQ would wait until the registration of a killed worker expires."""
        self.connection.delete(self.key)
        super().register_birth()  # type: ignore[no-untyped-call]

    def _install_signal_handlers(self) -> None:
        """Signals are the process's, before, between and after RQ workers (worker/process.py)."""

    def request_stop(self, signum: int = 0, frame: FrameType | None = None) -> None:  # noqa: ARG002  (a signal handler)
        """End after the job under way. RQ's own handler would first talk to Redis, which may be away."""
        first, self._stop_requested = not self._stop_requested, True
        if first and self.get_state() != WorkerStatus.BUSY:
            raise StopRequested  # out of the blocking pop
