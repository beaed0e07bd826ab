"""Kinds of runs. Each takes a load and gives figures; a drill of the catalogue is one of these with its parts."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from faults.drill import Drill, Trouble
from faults.figures import Asked, Figure, figures_of
from faults.load import Load
from faults.stores import Own, stores
from nightmail.demo.own_stack import own_stack


@dataclass(frozen=True, slots=True)
class Result:
    """Figures and notes of a run."""

    figures: list[Figure]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Setup:
    """What surrounds a run: its load, and where to keep the stack's logs (None: nowhere)."""

    load: Load
    logs: Path | None = None


Run = Callable[[Setup], Result]


def drill(
    trouble: Trouble,
    asked: Asked | None = None,
    *,
    own: frozenset[Own] = frozenset(),
    variables: Mapping[str, str] | None = None,
) -> Run:
    """One stack, one trouble."""

    def run(setup: Setup) -> Result:
        with stores(own) as held, own_stack({**held.variables(), **(variables or {})}) as folder:
            drill = Drill(folder, setup.load, held)
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    account = runner.run(drill.run(trouble))
            finally:
                if setup.logs:
                    shutil.copytree(folder.log, setup.logs, dirs_exist_ok=True)
        notes = [*drill.notes, *(f"refused with {words}" for words in account.refused[:5])]
        return Result([*figures_of(account, asked or Asked()), *drill.figures], notes)

    return run
