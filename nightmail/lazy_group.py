"""A group of commands that are imported when they are called, so that each process loads only what it needs."""

import importlib
from collections.abc import Mapping
from typing import Any, cast

import click


class LazyGroup(click.Group):
    """Finds a command by a table: its name -> (module in nightmail/commands/, function)."""

    def __init__(self, *arguments: Any, table: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: first what one needs first."""
        del ctx
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return it."""
        del ctx
        if cmd_name not in self._table:
            return None
        module, function = self._table[cmd_name]
        return cast("click.Command", getattr(importlib.import_module(f"nightmail.commands.{module}"), function))
