"""`python -m faults [names]`: runs drills and prints one table; exit code 0 only if every figure was met."""

import compileall
import sys
import time
import traceback
from pathlib import Path

import click
from rich.console import Console

from faults.catalogue import DRILLS
from faults.figures import Figure
from faults.load import Load
from faults.report import as_json, listing, table
from faults.runs import Result, Run, Setup
from runtime import logs as logs_of_ours
from runtime.settings import Settings

_WIDTH = 130  # of a table that goes into a file


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(DRILLS)))
@click.option("--mails", type=click.IntRange(min=1), help="How many, in place of each drill's own number.")
@click.option("--rate", type=click.FloatRange(min=1), help="Mails a second, in place of each drill's own rate.")
@click.option("--logs", type=click.Path(path_type=Path), help="Folder to keep the stacks' logs in.")
@click.option("--json", "as_list", is_flag=True, help="For machines.")
@click.option("--list", "list_them", is_flag=True, help="Say which drills there are.")
def main(
    *, names: tuple[str, ...], mails: int | None, rate: float | None, logs: Path | None, as_list: bool, list_them: bool
) -> None:
    """Break a stack on purpose and account for every mail."""
    console = Console(stderr=as_list, width=None if sys.stdout.isatty() else _WIDTH)
    if list_them:
        console.print(listing(DRILLS))
        return
    logs_of_ours.setup(Settings(log_level="error"), "faults")  # a torn tail after a power cut is no news here
    _compile()
    rows: list[tuple[str, Figure]] = []
    for name in names or tuple(DRILLS):
        began = time.monotonic()
        own = DRILLS[name].load
        setup = Setup(Load(mails or own.mails, rate or own.rate), logs / name if logs else None)
        result = _result(DRILLS[name].run, setup)
        for words in result.notes:
            console.print(f"  {words}", highlight=False, markup=False)
        console.print(f"{name}: {time.monotonic() - began:.0f} s", highlight=False)
        rows += [(name, figure) for figure in result.figures]
    if as_list:
        click.echo(as_json(rows))
    else:
        console.print(table(rows))
    sys.exit(0 if all(row.met for _, row in rows) else 1)


def _result(run: Run, setup: Setup) -> Result:
    """What a drill measured. One that breaks off costs no other its figures, and is a miss."""
    if setup.logs:
        setup.logs.mkdir(parents=True, exist_ok=True)
    try:
        return run(setup)
    except Exception as error:  # noqa: BLE001  (whatever it is, the others count)
        return Result([Figure("ran to its end", "yes", repr(error), met=False)], traceback.format_exc().splitlines())


def _compile() -> None:
    """As an installed package is: where Python may not write bytecode, each restart in a checkout would compile it."""
    checkout = Path(__file__).parent.parent
    for package in ("api", "history", "nightmail", "outbox", "runtime", "smtp", "worker"):
        compileall.compile_dir(checkout / package, quiet=2)


if __name__ == "__main__":
    main()
