"""Many power cuts under accepting at full speed: every acknowledged id must be in the queue or in a journal.

On each disk the comparison comes first, before any process of ours runs. The mail of the last disk is then delivered
by a whole stack, and compared again.
"""

import random
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from faults.figures import Figure, none_of, told
from faults.power.bench import Bench
from faults.power.disk import LoopDisk
from faults.runs import Result, Run, Setup
from nightmail.demo.own_stack import stack_in

_CUTS_PER_DISK = 6  # then a new one, or reading it all again would take longer than filling it
_FEWEST, _MOST = 0.3, 2.0  # seconds of accepting before a cut
_HANGING = 3  # every third cut, from the second on, finds the queue hung: the journal alone held the last mails
_HUNG = 0.6  # seconds of that
_DELIVERY = 300.0  # seconds for the stack to deliver a disk


@dataclass(slots=True)
class _Tally:
    """What came of all disks."""

    cuts: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    only_in_journal: int = 0
    seconds_to_load: float = 0.0
    notes: list[str] = field(default_factory=list)


def cuts(count: int, *, deliver: bool = True) -> Run:
    """That many, in one run. The load's numbers play no part: it is as fast as it can be."""

    def run(setup: Setup) -> Result:
        chance, tally = random.Random(count), _Tally()  # noqa: S311 - moments, not secrets
        figures: list[Figure] = []
        while tally.cuts < count:
            with tempfile.TemporaryDirectory(prefix="nightmail-power-") as name, LoopDisk(Path(name)) as disk:
                bench = Bench(disk, Path(name) / "ledger", setup.logs or Path(name))
                for _ in range(min(_CUTS_PER_DISK, count - tally.cuts)):
                    _one(bench, tally, chance)
                if deliver and tally.cuts == count:
                    figures = _delivered(bench)
        return Result([*_figures(tally), *figures], tally.notes)

    return run


def _one(bench: Bench, tally: _Tally, chance: random.Random) -> None:
    """Fill, cut, compare."""
    before = len(bench.acknowledged())
    bench.queue.start()
    bench.fill()
    time.sleep(chance.uniform(_FEWEST, _MOST))
    tally.cuts += 1
    if tally.cuts % _HANGING == 2:  # noqa: PLR2004 - said above
        bench.queue.hang()
        time.sleep(_HUNG)
    bench.cut()
    acknowledged = bench.acknowledged()
    tally.seconds_to_load = max(tally.seconds_to_load, bench.queue.start())
    left = bench.survivors()
    bench.queue.stop()
    lost = sorted(set(acknowledged) - left.all)
    tally.acknowledged += len(acknowledged) - before
    tally.lost += lost
    tally.only_in_journal += len(set(acknowledged[before:]) - left.queue)
    if lost:
        tally.notes.append(f"cut {tally.cuts}: {len(lost)} lost, the first is {lost[0]}")


def _delivered(bench: Bench) -> list[Figure]:
    """Let a stack take the disk over, and hold its mailbox against the ledger."""
    acknowledged = set(bench.acknowledged())
    mailbox = bench.data_dir / "mailbox.sqlite"
    began = time.monotonic()
    with stack_in(bench.data_dir):
        while len(_copies(mailbox).keys() & acknowledged) < len(acknowledged):
            if time.monotonic() - began > _DELIVERY:
                break
            time.sleep(1)
    copies = _copies(mailbox)
    return [
        told("delivered afterwards, of the last disk", f"{len(copies)} in {time.monotonic() - began:.0f} s"),
        none_of("acknowledged and never delivered", len(acknowledged - copies.keys())),
        none_of("delivered twice", sum(count - 1 for count in copies.values())),
    ]


def _copies(mailbox: Path) -> Counter[str]:
    with closing(sqlite3.connect(mailbox, timeout=30)) as db:
        return Counter(subject for (subject,) in db.execute("select subject from messages"))


def _figures(tally: _Tally) -> list[Figure]:
    return [
        told("power cuts", str(tally.cuts)),
        Figure("acknowledged", "> 0", str(tally.acknowledged), tally.acknowledged > 0),
        none_of("acknowledged and lost", len(tally.lost)),
        told("of these only in the journal", str(tally.only_in_journal)),
        told("longest load of the queue", f"{tally.seconds_to_load:.1f} s"),
    ]
