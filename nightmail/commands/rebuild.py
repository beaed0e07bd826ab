"""`rebuild`: makes a store anew from the others: the queue from the journals, the database from the events."""

import click

from nightmail.lazy_group import LazyGroup

# Each in its own file: rebuilding the queue loads nothing of the database.
_TABLE = {"queue": ("rebuild_queue", "rebuild_queue"), "database": ("rebuild_database", "rebuild_database")}


@click.group(cls=LazyGroup, table=_TABLE)
def rebuild() -> None:
    """Make a store anew from the others."""
