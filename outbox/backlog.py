"""What waits, why, and how long it will take: read from the queue alone, so it works while the database is down."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from redis.asyncio import Redis

from outbox.generation import Memory, Sight
from outbox.queue import FLOW_BUCKET_MS, bucket_of
from outbox.states import WAITING, State
from outbox.stream import read_progress
from runtime.clock import to_ms
from runtime.settings import Settings

_BUCKETS = 3  # the running one and the two before: 10 to 15 seconds
_LANES = 200  # lanes told one by one, the longest waiting first


@dataclass(frozen=True, slots=True)
class Flow:
    """Recipients per second over the last 10 to 15 seconds."""

    in_per_second: float
    out_per_second: float


@dataclass(frozen=True, slots=True)
class LaneBacklog:
    """One lane: deliveries that wait, those that are due, the age of the oldest due in seconds, open connections."""

    lane: str
    waiting: int
    due: int
    oldest_due_age: float
    connections: int
    in_per_second: float
    out_per_second: float
    time_to_drain: float | None


@dataclass(frozen=True, slots=True)
class RecorderLag:
    """How far the history is behind: events not yet recorded, and the age of the first of them in seconds."""

    state: str
    error: str
    checkpoint: int
    newest: int
    behind: int
    behind_seconds: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """The whole. `states` and `errors` count recipients; `time_to_drain` is seconds, None when it does not shrink."""

    depth: int
    in_flight: int
    oldest_due_age: float
    in_per_second: float
    out_per_second: float
    time_to_drain: float | None
    states: dict[str, int]
    errors: dict[str, int]
    lanes_waiting: int
    lanes: tuple[LaneBacklog, ...]
    recorder: RecorderLag
    queue: str  # ok; or lost: it lost its memory, nothing is delivered, and `nightmail rebuild queue` is waited for
    audit: dict[str, Any] | None  # the last audit of this machine (outbox/audit.py); None: there was none

    def to_dict(self) -> dict[str, Any]:
        """The JSON form of `GET /backlog`."""
        return asdict(self)


async def backlog(redis: Redis, settings: Settings, *, now: datetime) -> Backlog:
    """Read it in three round trips, whatever the depth."""
    reader = _Reader(redis, f"{{{settings.queue_prefix}}}", now, Memory(settings))
    return await reader.read()


class _Reader:
    def __init__(self, redis: Redis, prefix: str, now: datetime, memory: Memory) -> None:
        self._redis = redis
        self._prefix = prefix
        self._memory = memory
        self._now_ms = to_ms(now)
        self._bucket = bucket_of(self._now_ms)

    async def read(self) -> Backlog:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(f"{self._prefix}:states")
        pipe.hgetall(f"{self._prefix}:errors")
        pipe.zcard(f"{self._prefix}:lanes")
        pipe.zrange(f"{self._prefix}:lanes", 0, _LANES - 1, withscores=True)
        for name in ("in", "out"):
            for back in range(_BUCKETS):
                pipe.hgetall(f"{self._prefix}:{name}:{self._bucket - back}")
        pipe.mget(self._memory.keys)
        pipe.get(f"{self._prefix}:audit")
        states, errors, lanes_waiting, heads, *buckets, sight, audit = await pipe.execute()
        counts = {state.decode(): int(n) for state, n in states.items() if int(n)}
        flow = self._flow(buckets)
        total = _sum(flow.values())
        waiting = sum(counts.get(state, 0) for state in WAITING)
        in_flight = counts.get(State.SENDING, 0)
        return Backlog(
            depth=waiting + in_flight,
            in_flight=in_flight,
            oldest_due_age=self._age(heads[0][1]) if heads else 0.0,
            in_per_second=total.in_per_second,
            out_per_second=total.out_per_second,
            time_to_drain=_time_to_drain(waiting + in_flight, total),
            states=counts,
            errors={error.decode(): int(n) for error, n in errors.items()},
            lanes_waiting=lanes_waiting,
            lanes=await self._lanes(heads, flow),
            recorder=await self._recorder(),
            queue="lost" if self._memory.is_lost(Sight.of(sight)) else "ok",
            audit=orjson.loads(audit) if audit else None,
        )

    def _flow(self, buckets: list[dict[bytes, bytes]]) -> dict[str, Flow]:
        seconds = (_BUCKETS - 1) * FLOW_BUCKET_MS / 1000 + self._now_ms % FLOW_BUCKET_MS / 1000

        def per_second(some: list[dict[bytes, bytes]], lane: bytes) -> float:
            return round(sum(int(bucket.get(lane, 0)) for bucket in some) / seconds, 2)

        lanes = {lane for bucket in buckets for lane in bucket}
        into, out = buckets[:_BUCKETS], buckets[_BUCKETS:]
        return {lane.decode(): Flow(per_second(into, lane), per_second(out, lane)) for lane in lanes}

    async def _lanes(self, heads: list[tuple[bytes, float]], flow: dict[str, Flow]) -> tuple[LaneBacklog, ...]:
        pipe = self._redis.pipeline(transaction=False)
        for lane, _ in heads:
            pipe.zcard(f"{self._prefix}:lane:{lane.decode()}")
            pipe.zcount(f"{self._prefix}:lane:{lane.decode()}", "-inf", self._now_ms)
            pipe.zcount(f"{self._prefix}:chan:{lane.decode()}", self._now_ms, "+inf")
        counts = await pipe.execute()
        return tuple(
            self._lane(lane.decode(), first_due, counts[3 * at : 3 * at + 3], flow)
            for at, (lane, first_due) in enumerate(heads)
        )

    def _lane(self, lane: str, first_due: float, counts: list[int], flow: dict[str, Flow]) -> LaneBacklog:
        waiting, due, connections = counts
        rate = flow.get(lane, Flow(0.0, 0.0))
        return LaneBacklog(
            lane,
            waiting,
            due,
            self._age(first_due),
            connections,
            rate.in_per_second,
            rate.out_per_second,
            _time_to_drain(waiting, rate),
        )

    async def _recorder(self) -> RecorderLag:
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(f"{self._prefix}:recorder")
        pipe.get(f"{self._prefix}:seq")
        fields, seq = await pipe.execute()
        progress = read_progress(fields)
        newest = int(seq or 0)
        behind = max(newest - progress.checkpoint, 0)
        age = await self._first_unrecorded_age(progress.checkpoint) if behind else 0.0
        return RecorderLag(progress.state, progress.error, progress.checkpoint, newest, behind, age)

    async def _first_unrecorded_age(self, checkpoint: int) -> float:
        """Where the stream is already trimmed this is the age of its first event, a lower bound."""
        entries: Any = await self._redis.xrange(f"{self._prefix}:events", min=f"{checkpoint + 1}-0", count=1)
        return self._age(orjson.loads(entries[0][1][b"e"])["at"]) if entries else 0.0

    def _age(self, since_ms: float) -> float:
        return round(max(self._now_ms - since_ms, 0) / 1000, 3)


def _sum(flows: Any) -> Flow:
    every = list(flows)
    return Flow(round(sum(f.in_per_second for f in every), 2), round(sum(f.out_per_second for f in every), 2))


def _time_to_drain(waiting: int, flow: Flow) -> float | None:
    """Seconds until empty at the present rates; None while it grows or stands still."""
    if waiting == 0:
        return 0.0
    shrinking = flow.out_per_second - flow.in_per_second
    return round(waiting / shrinking, 1) if shrinking > 0 else None
