"""`python -m bench.publish FILE...`: puts what `python -m bench --json` printed into docs/performance.md, with a plot.

Several files make one table, so that a long measurement may be made in pieces. Of a row in two files the later counts.
"""

import re
from pathlib import Path
from typing import Any

import click
import orjson
from matplotlib.figure import Figure as Drawing

from bench.catalogue import ROWS

_DOCS = Path(__file__).resolve().parent.parent / "docs"
_PAGE = _DOCS / "performance.md"
_PLOT = _DOCS / "performance.png"
_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"
_MET, _MISSED = "#2b7a5b", "#b5482f"

Row = dict[str, Any]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(*, files: tuple[Path, ...]) -> None:
    """Renew the table and the plot."""
    reports = [orjson.loads(file.read_bytes()) for file in files]
    by_row: dict[str, tuple[str, list[Row]]] = {}
    for report in reports:
        for name in dict.fromkeys(figure["row"] for figure in report["figures"]):
            source = f"{report['at']}, {report['machine']}"
            by_row[name] = source, [figure for figure in report["figures"] if figure["row"] == name]
    by_row = {name: by_row[name] for name in ROWS if name in by_row}
    page = _PAGE.read_text()
    table = f"{_BEGIN}\n\n{_table(by_row)}\n\n{_END}"
    _PAGE.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: table, page, flags=re.DOTALL))
    _draw([figure for _, figures in by_row.values() for figure in figures if figure["met"] is not None])


def _table(by_row: dict[str, tuple[str, list[Row]]]) -> str:
    lines = ["| row | figure | asked | measured: median (lowest to highest) | |", "| --- | --- | --- | --- | --- |"]
    for name, (_, figures) in by_row.items():
        for number, figure in enumerate(figures):
            verdict = {True: "met", False: "**not met**", None: ""}[figure["met"]]
            row = f"`{name}`" if number == 0 else ""
            lines.append(f"| {row} | {figure['what'].strip()} | {figure['asked']} | {figure['measured']} | {verdict} |")
    sources = sorted({source for source, _ in by_row.values()})
    return "\n".join([*lines, "", *(f"Measured {source}." for source in sources)])


def _draw(figures: list[Row]) -> None:
    """A bar for each figure with a bound: how far it lies from the bound, and on which side."""
    figures = [figure for figure in figures if figure["median"] > 0 and _bound(figure) > 0]
    drawing = Drawing(figsize=(9, 0.42 * len(figures) + 1.2), layout="constrained")
    axes = drawing.subplots()
    places = range(len(figures))
    shares = [_share(figure) for figure in figures]
    axes.barh(
        places,
        [share - 1 for share in shares],
        left=1,
        color=[_MET if figure["met"] else _MISSED for figure in figures],
    )
    axes.set_yticks(places, [f"{figure['row']}: {figure['what']}" for figure in figures], fontsize=8)
    for place, figure, share in zip(places, figures, shares, strict=True):
        axes.annotate(
            f" {figure['median']:,.4g} {figure['unit']} (asked {figure['asked']})",
            (max(1, share), place),
            va="center",
            fontsize=7,
        )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(min([0.4, *shares]) / 1.2, max([2.0, *shares]) * 5)
    axes.invert_yaxis()
    axes.set_xlabel("times better than asked (1: just met)")
    drawing.savefig(_PLOT, dpi=110)


def _bound(figure: Row) -> float:
    return float(figure["asked"].split()[1].replace(",", ""))


def _share(figure: Row) -> float:
    ratio = float(figure["median"]) / _bound(figure)
    return ratio if figure["asked"].startswith(">=") else 1 / ratio


if __name__ == "__main__":
    main()
