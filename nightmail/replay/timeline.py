"""What the reports of the incidents tell, in words of our own, to stand beside what happened here.

Times, durations and figures are those of Resend's public reports on 21 February 2024 and 15 February 2026; all UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.table import Table

from nightmail.replay.figures import Figure


@dataclass(frozen=True, slots=True)
class Incident:
    """One of them: what it was, its course by the clock, and what the report says of figures that every replay has."""

    title: str
    moments: tuple[tuple[str, str], ...]
    figures: Mapping[str, str]


FEB_2024 = Incident(
    "21 February 2024: all tables dropped",
    (
        ("04:56", "a migration meant for a local database starts on production"),
        ("04:57", "its tables are seen to vanish"),
        ("05:01", "a restore begins; from here no API, no dashboard"),
        ("11:02", "the restore is done, after 6 hours"),
        ("11:03", "it is no use; why is unknown"),
        ("11:33", "the wrong backup time had been chosen"),
        ("11:48", "a larger machine, to be quicker"),
        ("12:05", "a second restore begins, from an older backup"),
        ("17:01", "it is done, after 5 hours"),
        ("17:02", "the API takes requests"),
        ("17:05", "the dashboard too; 5 minutes of data are missing"),
    ),
    {"refused": "every request, for 12 h", "rows missing": "5 minutes of them"},
)

FEB_2026 = Incident(
    "15 February 2026: 60 connections became 330",
    (
        ("22:19", "the incident begins"),
        ("22:20", "an alert on slow requests"),
        ("23:07", "the dashboard is seen to be slow"),
        ("23:55", "somebody is called in"),
        ("00:00", "the status page says so"),
        ("00:19", "visitors of the dashboard are challenged, to be safe"),
        ("00:22", "the pools are made smaller"),
        ("00:42", "more computing power"),
        ("00:50", "the login gets a limit"),
        ("00:59", "connections go down, mail flows at full speed"),
        ("01:03", "far fewer errors"),
        ("01:36", "no mail waits any more: about 2 hours late on average"),
        ("01:50", "all is well, after 3 h 31 min"),
    ),
    {"lost": "0", "delivery delay, p99": "about 2 h on average"},
)


def side_by_side(incident: Incident, diary: Sequence[tuple[float, str]], since: float) -> Table:
    """Then and here. `diary` has wall clock times; they are shown as seconds from `since`."""
    table = Table("UTC", "then", "here", "what happened here", title=incident.title, title_justify="left")
    for then, here in zip_longest(incident.moments, diary):
        clock, words = then or ("", "")
        at, ours = (f"{here[0] - since:+.1f} s", here[1]) if here else ("", "")
        table.add_row(clock, words, at, ours)
    return table


def figures_table(incident: Incident, figures: Sequence[Figure]) -> Table:
    """For people: what was then, what is asked, what came out."""
    table = Table("figure", "then", "asked", "measured", "")
    for figure in figures:
        then = figure.then or incident.figures.get(figure.name, "")
        table.add_row(figure.name, then, figure.asked, figure.measured, "met" if figure.met else "NOT MET")
    return table
