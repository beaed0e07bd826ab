"""The rows there are, and what measures each."""

from collections.abc import Sequence
from types import ModuleType

from bench.figures import Figure
from bench.plan import Plan, Tell
from bench.rows import (
    backlog,
    client,
    database,
    dead_domain,
    ended,
    large_mail,
    memory,
    overload,
    postfix,
    recorder,
    restore,
    rq_jobs,
    slow_disk,
)

_ALONE: Sequence[ModuleType] = (database, slow_disk, rq_jobs, dead_domain, backlog, memory, recorder)
_BY_NAME_ONLY: Sequence[ModuleType] = (ended, overload, large_mail, restore, client)


def _named(modules: Sequence[ModuleType]) -> dict[str, str]:
    return {name: about for module in modules for name, about in module.ROWS.items()}


USUAL: dict[str, str] = {**postfix.ROWS, **_named(_ALONE)}  # what runs when nobody names a row
ROWS: dict[str, str] = {**USUAL, **_named(_BY_NAME_ONLY)}


def measure(names: Sequence[str], plan: Plan, tell: Tell) -> list[Figure]:
    """The figures of these rows. Those that are compared with Postfix share their rounds."""
    figures: list[Figure] = []
    compared = [name for name in postfix.ROWS if name in names]
    if compared:
        figures += postfix.measure(compared, plan, tell)
    for module in (*_ALONE, *_BY_NAME_ONLY):
        if set(module.ROWS) & set(names):
            figures += module.measure(plan, tell)
    return figures
