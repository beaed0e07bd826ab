"""How figures are shown: a table for people, a list for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import orjson
from rich.table import Table

from bench.figures import Figure

_WORDS = {True: "met", False: "NOT MET", None: ""}


def table(figures: Sequence[Figure]) -> Table:
    """For people."""
    shown = Table("row", "figure", "asked", "measured: median (lowest to highest)", "")
    previous = ""
    for figure in figures:
        if figure.row != previous:
            shown.add_section()
        row = "" if figure.row == previous else figure.row
        shown.add_row(row, figure.what, figure.asked, figure.measured, _WORDS[figure.met])
        previous = figure.row
    return shown


def as_json(figures: Sequence[Figure], *, machine: str, at: str) -> str:
    """For machines, and for `python -m bench.publish`."""
    report = {"machine": machine, "at": at, "figures": [asdict(figure) for figure in figures]}
    return orjson.dumps(report, option=orjson.OPT_INDENT_2).decode()


def listing(rows: Mapping[str, str]) -> Table:
    """What there is."""
    shown = Table("row", "what is measured")
    for name, about in rows.items():
        shown.add_row(name, about)
    return shown
