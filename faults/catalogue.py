"""The table of drills: name, what it is, load and figures asked. Ratios hold within one run on one machine."""

from collections.abc import Mapping
from dataclasses import dataclass

from faults.figures import Asked
from faults.load import Load
from faults.machines import lost_disk
from faults.power.machine import whole
from faults.power.many import cuts
from faults.runs import Run, drill
from faults.steps import at_steps
from faults.stores import Own
from faults.troubles import database, memory, overload, processes, queue, workers


@dataclass(frozen=True, slots=True)
class Entry:
    """One drill. `load` is what `make faults` runs it with."""

    about: str
    run: Run
    load: Load


_UNHURT = Asked(accept_ratio=1.2, delay_excess=0.1)  # the database is not on the way of a mail
_BRIDGED = Asked(accept_p99=0.06)  # the journal takes what the queue cannot
_KILLED = Asked(duplicates_per_kill=0.05)
_QUEUE = frozenset({Own.VALKEY})
_DATABASE = frozenset({Own.POSTGRES})

_OUTAGE = Load(2_800, 80)  # 35 s, of which 13 s are the fault
_ROUNDS = Load(3_600, 120)  # 30 s, of which 11 s are the fault
_KILLS = Load(1_500, 20)  # 75 s; a kill falls between a dot and its receipt the more often, the more dots there are
_DISK = Load(1_200, 60)

DRILLS: Mapping[str, Entry] = {
    "database-modes": Entry("chaos switch through all its modes, SQLite", drill(database.modes, _UNHURT), _ROUNDS),
    "database-stopped": Entry("PostgreSQL: immediate stop", drill(database.stopped, _UNHURT, own=_DATABASE), _ROUNDS),
    "database-hung": Entry(
        "PostgreSQL: SIGSTOP of all its processes", drill(database.hung, _UNHURT, own=_DATABASE), _ROUNDS
    ),
    "database-locked": Entry(
        "PostgreSQL: a transaction locks all tables", drill(database.locked, _UNHURT, own=_DATABASE), _ROUNDS
    ),
    "database-exhausted": Entry(
        "PostgreSQL: somebody else takes all connections", drill(database.exhausted, _UNHURT, own=_DATABASE), _ROUNDS
    ),
    "database-dropped": Entry(
        "PostgreSQL: the schema is dropped by a superuser", drill(database.dropped, _UNHURT, own=_DATABASE), _ROUNDS
    ),
    "database-flapping": Entry(
        "PostgreSQL: stopped and started every 5 s", drill(database.flapping, _UNHURT, own=_DATABASE), _ROUNDS
    ),
    "redis-killed": Entry("queue: kill -9, and it stays away", drill(queue.killed, _BRIDGED, own=_QUEUE), _OUTAGE),
    "redis-hung": Entry("queue: SIGSTOP", drill(queue.hung, _BRIDGED, own=_QUEUE), _OUTAGE),
    "redis-full": Entry(
        "queue: maxmemory is reached, no floor under it",
        drill(queue.full, _BRIDGED, own=_QUEUE, variables={"NIGHTMAIL_QUEUE_MEMORY_SHARE": "1"}),
        _OUTAGE,
    ),
    "redis-floor": Entry(
        "queue: maxmemory is reached, and the floor refuses in time",
        drill(queue.floor, Asked(refused_with=("507", "452")), own=_QUEUE),
        Load(2_000, 80),
    ),
    "redis-readonly": Entry("queue: made a replica of nobody", drill(queue.readonly, _BRIDGED, own=_QUEUE), _OUTAGE),
    "redis-busy": Entry("queue: a script without end", drill(queue.busy, _BRIDGED, own=_QUEUE), _OUTAGE),
    "queue-flushed": Entry(
        "queue: FLUSHALL, and `nightmail rebuild queue`", drill(memory.flushed, own=_QUEUE), Load(1_800, 80)
    ),
    "disk-of-one-machine": Entry(
        "one of two machines, with its journals", lost_disk(Asked(duplicates_per_kill=10, longest_delay=10.0)), _DISK
    ),
    "worker-killed": Entry(
        "the only worker: kill -9 again and again",
        drill(workers.killed, Asked(duplicates_per_kill=0.05, resume_p99=2.0)),
        _KILLS,
    ),
    "worker-stopped": Entry(
        "one of two workers: SIGSTOP beyond its lease, then SIGCONT",
        drill(
            workers.stopped,
            Asked(duplicates_per_kill=10, fenced=True, longest_delay=25.0),
            variables={"NIGHTMAIL_WORKERS": "2"},
        ),
        Load(3_000, 60),
    ),
    "worker-steps": Entry("the worker dies at each step of a delivery", at_steps(), Load(1_600, 60)),
    "kill-each": Entry("kill -9 of every process in turn", drill(processes.kill_each, _KILLED), Load(2_400, 60)),
    "process-kills": Entry(
        "kill -9 of any process at random", drill(processes.kill_at_random, _KILLED), Load(8_000, 50)
    ),
    "overload": Entry(
        "three times what the API can do, by HTTP alone",
        drill(overload.overload, Asked(refused_with=("429", "503")), variables=overload.VARIABLES),
        Load(0, 100),
    ),
    "power-cut": Entry(
        "the disk of a whole stack, three times", whole(3, Asked(duplicates_per_kill=1)), Load(2_400, 40)
    ),
    "power-cuts": Entry("the disk of queue and journal, 60 times, accepting at full speed", cuts(60), Load(1, 1)),
}
