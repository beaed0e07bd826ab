"""A worker dies at each step of a delivery, again and again (worker/failpoint.py), and comes back."""

import asyncio
from collections.abc import Sequence

from faults.drill import Drill
from faults.figures import Figure, none_of
from faults.load import Load
from faults.runs import Result, Run, Setup
from faults.stores import Stores
from nightmail.demo.own_stack import own_stack
from worker.failpoint import VARIABLE, Step

# The next hop has the mail and our journal does not say so; or it may have the next one, sent while this one settles.
_MAY_DUPLICATE = frozenset({Step.AFTER_DOT, Step.AFTER_250, Step.MID_SETTLE})
_ONE_BY_ONE = {"NIGHTMAIL_LANE_CONNECTIONS": "1"}  # so that no other mail is under way at another step
_PASSAGE, _CLAIMS = 40, 4  # mails, or claims, after which it dies; in each of its lives
WORKER = "worker-1"


def at_steps(steps: Sequence[Step] = tuple(Step)) -> Run:
    """One stack per step."""

    def run(setup: Setup) -> Result:
        load = Load(max(2 * _PASSAGE, setup.load.mails // len(steps)), setup.load.rate)
        figures: list[Figure] = []
        notes: list[str] = []
        for step in steps:
            one = _one(step, load)
            figures += one.figures
            notes += [f"{step}: {note.strip()}" for note in one.notes]
        return Result(figures, notes)

    return run


def _one(step: Step, load: Load) -> Result:
    passage = _CLAIMS if step is Step.AFTER_CLAIM else _PASSAGE
    with own_stack({VARIABLE: f"{step}:{passage}", **_ONE_BY_ONE}) as folder:
        drill = Drill(folder, load, Stores())
        account = asyncio.run(drill.run(_nothing))
        deaths = next(p["restarts"] for p in (folder.state() or {})["processes"] if p["name"] == WORKER)
    allowed = deaths if step in _MAY_DUPLICATE else 0
    wrong = len(account.refused) + len(account.phantoms) + len(account.altered) + account.rows.wrong
    return Result(
        [
            Figure(f"{step}: deaths", "> 0", str(deaths), deaths > 0),
            none_of(f"{step}: lost", len(account.lost)),
            Figure(
                f"{step}: duplicated",
                f"<= {allowed}" if allowed else "0",
                str(account.duplicated),
                account.duplicated <= allowed,
            ),
            none_of(f"{step}: duplicated and not flagged", len(account.unflagged)),
            none_of(f"{step}: refused, altered, wrong rows", wrong),
        ],
        drill.notes,
    )


async def _nothing(_: Drill) -> None:
    """The worker breaks itself."""
