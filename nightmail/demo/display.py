"""How the demo looks while it runs, and what it prints at the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from nightmail.demo.ledger import Verdict


class Display:
    """Three bars that grow, and lines for what happens meanwhile."""

    def __init__(self, console: Console, mails: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=50),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._bars: dict[str, TaskID] = {
            name: self._progress.add_task(name, total=mails, note="") for name in ("accepted", "delivered", "recorded")
        }

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the bars while inside."""
        with self._progress:
            yield

    def say(self, words: str) -> None:
        """A line above the bars."""
        self._progress.console.print(words, highlight=False)

    def show(self, name: str, done: int, *, note: str = "") -> None:
        """Move a bar."""
        self._progress.update(self._bars[name], completed=done, note=note)


def account(verdict: Verdict, *, outage: float, catch_up: float) -> str:
    """The story in numbers. `outage` and `catch_up` are seconds."""
    ways = ", ".join(f"{count} by {via}" for via, count in sorted(verdict.accepted.items()))
    rows = [
        ("accepted", f"{sum(verdict.accepted.values())} ({ways})"),
        ("refused", verdict.refused),
        ("delivered", verdict.delivered),
        ("lost", len(verdict.lost)),
        ("duplicated", verdict.duplicated),
        ("in history", verdict.delivered - len(verdict.unrecorded)),
        ("longest delay", f"{verdict.longest_delay * 1000:.0f} ms from accept to mailbox"),
        ("database away", f"{outage:.1f} s"),
        ("recorder", f"caught up {catch_up:.1f} s after the database was back"),
    ]
    if verdict.phantoms or verdict.misnamed:
        rows += [("never accepted", verdict.phantoms), ("wrong Message-ID", verdict.misnamed)]
    return "\n".join(f"  {name:<16} {value}" for name, value in rows)
