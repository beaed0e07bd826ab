"""`rebuild`: makes a store anew from the others: the queue from the journals, the database from the events."""

import importlib
from typing import cast

import click

_COMMANDS = {"queue": "rebuild_queue", "database": "rebuild_database"}


class _Lazy(click.Group):
    """Finds a sub-command in its own file, under that name: rebuilding the queue loads nothing of the database."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return it."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"nightmail.commands.{_COMMANDS[cmd_name]}")
        return cast("click.Command", getattr(module, _COMMANDS[cmd_name]))


@click.group(cls=_Lazy)
def rebuild() -> None:
    """Make a store anew from the others."""
