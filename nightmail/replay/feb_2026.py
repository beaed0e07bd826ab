"""15 February 2026: one client went from 60 database connections to over 330, and nobody else got one.

Four variants: its login has a limit; it has none; the server hangs; our own control API leaks its pool.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from history.sessions import Alarm
from nightmail.replay.figures import Figure, at_most, zero
from nightmail.replay.rogue import Rogue
from nightmail.replay.stage import Stage
from nightmail.replay.watch import RecorderWord

_ROGUE = "nightmail_readonly"
_WANTED = 330
_GROWS = 0.5  # of the fault's time it takes to open them all: it came over many minutes, and should not cost a core
_LOOK = 1.0  # seconds between two looks at it
_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'nightmail_readonly'"
_OURS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE usename IN ('nightmail_recorder', 'nightmail_control')"
)
_LIMIT = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'nightmail_readonly'"
# Every connection of the server, as a hosted database of that size has.
OPTIONS = {"max_connections": "100"}

VARIANTS = {
    1: "the rogue's login has a limit",
    2: "no limit: every connection is taken",
    3: "the server hangs (SIGSTOP)",
    4: "our own control API leaks its pool",
}


@dataclass(slots=True)
class Course:
    """What happened, for the figures. Times in seconds, None for never."""

    variant: int
    outage: float
    detected: float | None = None
    usable: float | None = None
    caught_up: float | None = None
    slowest_answer: float = 0.0
    odd_answers: int = 0
    answers: int = 0
    partial: int = 0
    worst_lag: float = 0.0
    ill_at: float = 0.0  # wall clock: from when we too had no connection
    limit: int = 0
    most_held: int = 0
    rogue: Rogue | None = None
    told: list[RecorderWord] = field(default_factory=list)
    near_limit: float | None = None
    unused: float | None = None

    def figures(self) -> list[Figure]:
        """The lines of this replay alone."""
        figures = [
            at_most("slowest answer of the history", self.slowest_answer, 1.5, then="inaccessible for hours"),
            zero("answers but 200 and 503 with Retry-After", self.odd_answers, of=f"{self.answers}"),
            *(self._limited() if self.variant == 1 else self._ill()),
        ]
        if self.rogue is not None:
            tries = f"{self.rogue.tried} tries, {self.rogue.held} granted, {self.rogue.refused} refused"
            figures.insert(
                0, Figure("the rogue", f">= {_WANTED} tries", tries, self.rogue.tried >= _WANTED, "330 granted")
            )
        return figures

    def _limited(self) -> list[Figure]:
        refusal = self.rogue.slowest_refusal if self.rogue else None
        within = 0 < self.most_held <= self.limit
        return [
            Figure("most connections it had", f"<= {self.limit}", str(self.most_held), within, "over 330"),
            at_most("its slowest refusal", refusal, 1),
            zero("answers without the history", self.partial, of=f"{self.answers}"),
            at_most("recorder's worst lag", self.worst_lag, 5),
            at_most("alarm: login near its limit", self.near_limit, 30, then="escalated after 1 h 35 min"),
            at_most("alarm: connections nobody uses", self.unused, 60),
        ]

    def _ill(self) -> list[Figure]:
        return [
            at_most("noticed after", self.detected, 10, then="1 min; escalated after 1 h 35 min"),
            at_most("history answers again", self.usable, 5, then="3 h 31 min"),
            at_most("recorder has caught up", self.caught_up, max(5.0, self.outage / 5)),
        ]


async def run(stage: Stage, variant: int) -> Course:
    """The whole course, with the load running; returns when the database is well again."""
    await stage.after(stage.load.warm_up)
    began = time.time()
    await stage.after(stage.load.baseline)
    stage.phases.baseline = (began, time.time())
    course = Course(variant, stage.load.fault)
    stage.phases.fault = (time.time(), float("inf"))
    await _TROUBLES[variant](stage, course)
    await _recover(stage, course)
    stage.phases.fault = (stage.phases.fault[0], time.time())
    await stage.after(stage.load.after)
    _sum_up(stage, course)
    return course


async def _limited(stage: Stage, course: Course) -> None:
    with stage.database.connect() as admin:
        row = admin.execute(_LIMIT).fetchone()
    course.limit = int(row[0]) if row else 0
    await _rogue(stage, course)


async def _unlimited(stage: Stage, course: Course) -> None:
    stage.database.force(
        f"ALTER ROLE {_ROGUE} CONNECTION LIMIT -1",
        f"ALTER ROLE {_ROGUE} RESET ALL",
    )
    stage.note("the limits of its login are taken away")
    await _rogue(stage, course, starve=True)


async def _rogue(stage: Stage, course: Course, *, starve: bool = False) -> None:
    """Let it take what it gets for as long as the fault lasts; `starve`: what we have it gets too."""
    course.rogue = rogue = Rogue(stage.database.url(_ROGUE), _WANTED, seconds=stage.load.fault * _GROWS)
    rogue.begin()
    stage.note(f"a client begins to open {_WANTED} connections and leaves every other one in a transaction")
    try:
        await _while_ill(stage, lambda: _look(stage, course, starve=starve and rogue.refused > 0))
    finally:
        await asyncio.to_thread(rogue.leave)
    stage.note(f"it leaves; it had {course.most_held} at once, and was refused {rogue.refused} times")


def _look(stage: Stage, course: Course, *, starve: bool) -> None:
    """In a place that is kept for superusers."""
    with stage.database.connect() as admin:
        row = admin.execute(_SESSIONS).fetchone()
        course.most_held = max(course.most_held, int(row[0]) if row else 0)
        if starve:
            admin.execute(_OURS.encode())
            course.ill_at = course.ill_at or time.time()


async def _hanging(stage: Stage, course: Course) -> None:
    del course
    stage.database.server.pause()
    stage.note("the server hangs: SIGSTOP to each of its processes")
    try:
        await _while_ill(stage)
    finally:
        stage.database.server.resume()
    stage.note("it goes on")


async def _leaking(stage: Stage, course: Course) -> None:
    del course
    await stage.observer.switch_database("exhausted", seconds=600)
    stage.note("no process of ours gets a connection from its pool")
    await _while_ill(stage)
    await stage.observer.switch_database("up")
    stage.note("the pools hand out connections again")


_TROUBLES: dict[int, Callable[[Stage, Course], Coroutine[Any, Any, None]]] = {
    1: _limited,
    2: _unlimited,
    3: _hanging,
    4: _leaking,
}


async def _while_ill(stage: Stage, look: Callable[[], None] | None = None) -> None:
    """For as long as the fault lasts, counted from its beginning."""
    noted, looked_at = False, 0.0
    while time.time() < stage.phases.fault[0] + stage.load.fault:
        if look is not None and time.monotonic() > looked_at + _LOOK:
            looked_at = time.monotonic()
            await asyncio.to_thread(look)
        word = stage.watch.recorder[-1] if stage.watch.recorder else None
        if word and word.error and word.at > stage.phases.fault[0] and not noted:
            noted = True
            stage.note(f"the backlog says: {word.state}, {word.error}")
        await asyncio.sleep(0.25)


async def _recover(stage: Stage, course: Course) -> None:
    began = time.time()
    usable = await stage.watch.until(lambda: stage.watch.history_is_whole(since=began), seconds=60)
    course.usable = None if usable is None else time.time() - began
    caught_up = await stage.watch.until(lambda: stage.watch.in_step(since=began), seconds=60)
    course.caught_up = None if caught_up is None else time.time() - began
    stage.note("the recorder is in step")


def _sum_up(stage: Stage, course: Course) -> None:
    gone, back = stage.phases.fault
    words = [word for word in stage.watch.recorder if gone <= word.at < back]
    course.worst_lag = max((word.lag for word in words), default=0.0)
    ill_at = course.ill_at or gone
    course.detected = next((word.at - ill_at for word in words if word.state != "ok" and word.at > ill_at), None)
    log = stage.folder.log / "recorder.log"
    course.near_limit = _alarm(log, Alarm.NEAR_LIMIT, since=gone)
    course.unused = _alarm(log, Alarm.UNUSED, since=gone)
    answers = [answer for answer in stage.watch.history if gone <= answer.at < back]
    course.answers = len(answers)
    course.slowest_answer = max((answer.seconds for answer in answers), default=0.0)
    course.partial = sum(not answer.complete for answer in answers)
    course.odd_answers = sum(
        answer.status != 200 and not (answer.status == 503 and answer.retry_after)  # noqa: PLR2004
        for answer in answers
    )


def _alarm(log: Path, alarm: Alarm, *, since: float) -> float | None:
    """Seconds from `since` until the recorder gave it about the rogue's login; None if it never did."""
    for line in log.read_bytes().splitlines():
        entry = orjson.loads(line) if line.startswith(b"{") else {}
        if (entry.get("event"), entry.get("alarm"), entry.get("login")) == ("database.alarm", alarm, _ROGUE):
            return datetime.fromisoformat(entry["timestamp"]).timestamp() - since
    return None
