"""The rows there are, and what measures each."""

from collections.abc import Callable, Sequence

from bench import comparison
from bench.figures import Figure
from bench.plan import Plan

Tell = Callable[[str], None]

ROWS: dict[str, str] = {**comparison.ROWS}


def measure(names: Sequence[str], plan: Plan, tell: Tell) -> list[Figure]:
    """The figures of these rows. Those that are compared with Postfix share their rounds."""
    figures = []
    compared = [name for name in comparison.ROWS if name in names]
    if compared:
        figures += comparison.compare(compared, plan, tell)
    return figures
