"""`python -m bench [rows]`: measures, and prints what was asked and found; exit code 0 if all that was asked is met."""

import os
import sys
import time

import click
from rich.console import Console

from bench.catalogue import ROWS, USUAL, measure
from bench.plan import Plan
from bench.report import as_json, listing, table
from runtime import logs
from runtime.clock import now
from runtime.settings import Settings

_WIDTH = 130  # of a table that goes into a file


def _setting(_context: click.Context, _option: click.Parameter, words: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [word.partition("=") for word in words]
    if any(not sign for _, sign, _ in pairs):
        raise click.BadParameter("write it as name=value, as in workers=2")
    return tuple((name.lower().removeprefix("nightmail_"), value) for name, _, value in pairs)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(ROWS)), metavar="[ROWS]...")
@click.option("--rounds", type=click.IntRange(min=1), default=Plan.rounds, show_default=True, help="A B A B ...")
@click.option("--mails", type=click.IntRange(min=100), default=Plan.mails, show_default=True, help="Of one run.")
@click.option("--backlog", type=click.IntRange(min=20_000), default=Plan.backlog, show_default=True, help="Mails.")
@click.option("--dead", type=click.IntRange(min=1_000), default=Plan.dead, show_default=True, help="Mails.")
@click.option("--set", "settings", multiple=True, callback=_setting, help="A setting of our stack: workers=2.")
@click.option("--json", "as_list", is_flag=True, help="For machines.")
@click.option("--list", "list_them", is_flag=True, help="Say which rows there are.")
def main(
    *,
    names: tuple[str, ...],
    rounds: int,
    mails: int,
    backlog: int,
    dead: int,
    settings: tuple[tuple[str, str], ...],
    as_list: bool,
    list_them: bool,
) -> None:
    """Measure Nightmail side by side with Postfix, and against itself in trouble."""
    notes = Console(stderr=True, highlight=False)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    if list_them:
        console.print(listing(ROWS))
        return
    logs.setup(Settings(log_level="error"), "bench")  # to stderr: stdout is the table's, or a machine's
    began = time.monotonic()
    plan = Plan(rounds=rounds, mails=mails, backlog=backlog, dead=dead, settings=settings)
    figures = measure(names or tuple(USUAL), plan, lambda words: notes.print(words, markup=False, soft_wrap=True))
    if as_list:
        click.echo(as_json(figures, machine=_machine(), at=f"{now():%Y-%m-%d}"))
    else:
        console.print(table(figures))
        console.print(f"{time.monotonic() - began:.0f} s on {_machine()}", highlight=False)
    sys.exit(0 if all(figure.met is not False for figure in figures) else 1)


def _machine() -> str:
    """What the figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GB, Python {sys.version.split()[0]}"


if __name__ == "__main__":
    main()
