"""21 February 2024: a migration meant for a developer's machine dropped all tables of production.

Here the mistake is refused in every way it can be made; then it is forced, the listeners are killed while the database
is gone, and the wrong, too old backup is restored first.
"""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from history.survey import Standing
from nightmail.commands.database_verify import examine, told
from nightmail.replay.database import NAME
from nightmail.replay.figures import Figure, at_most, zero
from nightmail.replay.mistakes import Attempt, make_them
from nightmail.replay.postgres import Postgres, free_port
from nightmail.replay.stage import Stage

_LISTENERS = ("api", "smtp", "control")

_FEW = 10  # a tenth of a second's mails is what is always under way

Force = Literal["schema", "database"]


@dataclass(slots=True)
class Course:
    """What happened, for the figures. Times in seconds, None for never."""

    attempts: list[Attempt]
    detected: float | None = None
    standing: Standing | None = None
    broken: Standing | None = None
    usable: float | None = None
    filled: float | None = None

    def figures(self) -> list[Figure]:
        """The lines of this replay alone."""
        let_through = [attempt.words for attempt in self.attempts if not attempt.refused]
        guards = f"{len(self.attempts)} tries, each guard alone"
        standing = self.standing
        replayable = standing is not None and not standing.problem
        behind = f"{standing.behind} events behind, replayable: {'yes' if replayable else 'no'}" if standing else "?"
        figures = [
            zero("mistakes let through", len(let_through), of=guards, then="all tables dropped"),
            at_most("noticed after", self.detected, 10, then="1 min"),
            Figure("wrong, older backup", "replayable", behind, replayable, "6 h lost on it"),
            at_most("history answers again", self.usable, 60, then="12 h 4 min"),
            at_most("all rows are back", self.filled, 60, then="never: 5 min lost"),
        ]
        if self.broken is not None:
            named = self.broken.problem
            figures.append(Figure("backup beyond a lost segment", "refused", named or "taken", bool(named)))
        return figures


async def run(stage: Stage, force: Force = "schema") -> Course:
    """The whole course, with the load running; returns when the database is whole again."""
    await stage.after(stage.load.warm_up)
    began = time.time()
    await stage.after(stage.load.baseline * 0.4)
    older = await asyncio.to_thread(stage.database.server.back_up, stage.server_folder / "older")
    stage.note("a base backup is taken")
    await stage.after(max(0.0, began + stage.load.baseline - time.time()))
    stage.phases.baseline = (began, time.time())
    course = Course(await asyncio.to_thread(make_them, stage.database))
    stage.note(f"the mistake is made in {len(course.attempts)} ways; each is refused")
    await _lose_it(stage, course, force)
    await _restart_listeners(stage)
    await stage.after(stage.load.fault * 0.5)
    await _restore(stage, course, older)
    stage.phases.fault = (stage.phases.fault[0], time.time())
    await stage.after(stage.load.after)
    return course


async def _lose_it(stage: Stage, course: Course, force: Force) -> None:
    stage.phases.fault = (time.time(), float("inf"))
    if force == "schema":
        await asyncio.to_thread(stage.database.force, "DROP SCHEMA public CASCADE")
    else:
        await asyncio.to_thread(_drop_database, stage)
    stage.note(f"a superuser switches the guards off and drops the {force}")
    gone_at = stage.phases.fault[0]
    ill = stage.watch
    course.detected = await ill.until(
        lambda: bool(ill.recorder) and ill.recorder[-1].at > gone_at and ill.recorder[-1].state != "ok", seconds=30
    )
    stage.note(f"the backlog says: {ill.recorder[-1].state}, {ill.recorder[-1].error}")


def _drop_database(stage: Stage) -> None:
    with stage.database.connect(database="postgres") as admin:
        admin.execute(f"DROP DATABASE {NAME} WITH (FORCE)".encode())


async def _restart_listeners(stage: Stage) -> None:
    """`kill -9` of everything that listens: they must come up without a database."""
    began = time.time()
    before = stage.processes()
    for name in _LISTENERS:
        os.kill(before[name], signal.SIGKILL)
    stage.note(f"kill -9 of {', '.join(_LISTENERS)}")
    answers = len(stage.watch.recorder)
    await stage.watch.until(lambda: _are_new(stage, before) and len(stage.watch.recorder) > answers + 1, seconds=30)
    stage.note(f"they serve again, without a database, after {time.time() - began:.1f} s")
    await stage.watch.until(lambda: stage.unanswered <= stage.load.rate / _FEW, seconds=30)  # what had to wait
    stage.phases.restarts.append((began - 1, time.time() + 1))


def _are_new(stage: Stage, before: dict[str, int]) -> bool:
    now = stage.processes()
    return all(now.get(name) not in {None, before[name]} for name in _LISTENERS)


async def _restore(stage: Stage, course: Course, older: Postgres) -> None:
    """Beside first, to be looked at; then in the place of the lost one."""
    began = time.time()
    stage.note("the oldest backup is restored, which is the wrong one")
    beside = Postgres(older.folder, port=free_port(), options={"listen_addresses": "127.0.0.1"})
    await asyncio.to_thread(beside.start)
    try:
        standing, course.broken = await asyncio.to_thread(_examine, stage, beside.port)
    finally:
        await asyncio.to_thread(beside.stop)
    course.standing = standing
    stage.note(told(standing).replace("\n", " "))
    await asyncio.to_thread(stage.database.server.stop)
    stage.database.server = older
    await asyncio.to_thread(older.start)
    stage.note("it takes the place of the lost one; the recorder goes on from its checkpoint")
    usable = await stage.watch.until(lambda: stage.watch.history_is_whole(since=began), seconds=90)
    course.usable = None if usable is None else time.time() - began
    filled = await stage.watch.until(lambda: stage.watch.in_step(since=began), seconds=90)
    course.filled = None if filled is None else time.time() - began
    stage.note("every event since is in it again")


def _examine(stage: Stage, port: int) -> tuple[Standing, Standing | None]:
    """As `nightmail database verify` does; and once more with an archive that lost the first segment it would need."""
    with stage.database.at(port).opened("postgres") as database:
        standing = examine(database, stage.settings)
        archive = stage.settings.data_dir / "archive"
        needed = [path for path in sorted(archive.glob("events-*")) if _last(path) > standing.checkpoint]
        if not needed:
            return standing, None
        with tempfile.TemporaryDirectory(prefix="nightmail-replay-") as name:
            shutil.copytree(archive, Path(name) / "archive", ignore=shutil.ignore_patterns(needed[0].name))
            maimed = stage.settings.model_copy(update={"data_dir": Path(name)})
            return standing, examine(database, maimed)


def _last(segment: Path) -> int:
    return int(segment.name.split("-")[2])
