"""How the figures of drills are shown: one table for people, one list for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import orjson
from rich.table import Table

from faults.catalogue import Entry
from faults.figures import Figure

Rows = Sequence[tuple[str, Figure]]


def table(rows: Rows) -> Table:
    """For people."""
    shown = Table("fault", "figure", "asked", "measured", "")
    previous = ""
    for fault, row in rows:
        if fault != previous:
            shown.add_section()
        shown.add_row("" if fault == previous else fault, row.figure, row.asked, row.measured, _said(row))
        previous = fault
    return shown


def _said(row: Figure) -> str:
    if row.asked == "told":
        return ""
    return "met" if row.met else "NOT MET"


def as_json(rows: Rows) -> str:
    """For machines."""
    return orjson.dumps([{"fault": fault, **asdict(row)} for fault, row in rows]).decode()


def listing(drills: Mapping[str, Entry]) -> Table:
    """What there is."""
    shown = Table("fault", "what is broken", "mails", "a second")
    for name, entry in drills.items():
        shown.add_row(name, entry.about, str(entry.load.mails), f"{entry.load.rate:g}")
    return shown
