"""`python -m faults [names]`: runs drills and prints one table; exit code 0 only if every figure was met."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import click
from rich.console import Console
from rich.table import Table

from faults.drill import Account, Drill, Load, Trouble
from faults.troubles import database_modes, kill_each
from nightmail.demo.own_stack import own_stack

DRILLS: Mapping[str, Trouble] = {"database-modes": database_modes, "kill-each": kill_each}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: what was asked and what was measured."""

    fault: str
    figure: str
    asked: str
    measured: str
    met: bool


def rows_of(name: str, account: Account) -> list[Row]:
    """The figures of a drill."""
    verdict = account.verdict
    counts = {
        "refused": verdict.refused,
        "lost": len(verdict.lost),
        "duplicated": verdict.duplicated,
        "never accepted": verdict.phantoms,
        "not in the history": len(verdict.unrecorded),
        "wrong rows": account.rows_wrong,
    }
    rows = [Row(name, figure, "0", str(count), count == 0) for figure, count in counts.items()]
    accepted = sum(verdict.accepted.values())
    rows.insert(0, Row(name, "accepted", "all", str(accepted), accepted > 0))
    rows.append(Row(name, "longest delay", "told", f"{verdict.longest_delay * 1000:.0f} ms", met=True))
    rows.append(Row(name, "flagged attempts", "told", str(account.flagged), met=True))
    return rows


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(DRILLS)))
@click.option("--mails", default=10_000, show_default=True)
@click.option("--rate", default=150.0, show_default=True, help="Mails a second.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def main(*, names: tuple[str, ...], mails: int, rate: float, as_json: bool) -> None:
    """Break a stack on purpose and account for every mail."""
    console = Console(stderr=as_json)
    rows: list[Row] = []
    for name in names or tuple(DRILLS):
        began = time.monotonic()
        with own_stack() as folder:
            account = asyncio.run(Drill(folder, Load(mails, rate)).run(DRILLS[name]))
        for words in (*account.notes, *(f"refused with {refusal}" for refusal in account.refusals)):
            console.print(f"  {words}", highlight=False, markup=False)
        console.print(f"{name}: {time.monotonic() - began:.0f} s", highlight=False)
        rows += rows_of(name, account)
    if as_json:
        click.echo(json.dumps([{field: getattr(row, field) for field in Row.__slots__} for row in rows]))
    else:
        console.print(table(rows))
    sys.exit(0 if all(row.met for row in rows) else 1)


def table(rows: list[Row]) -> Table:
    """For people."""
    shown = Table("fault", "figure", "asked", "measured", "")
    for row in rows:
        shown.add_row(row.fault, row.figure, row.asked, row.measured, "met" if row.met else "NOT MET")
    return shown


if __name__ == "__main__":
    main()
