"""The command line. Commands are imported when they are called, so that each process loads only what it needs."""

import importlib
from typing import cast

import click

_COMMANDS = {
    "up": "stack",
    "down": "stack",
    "status": "stack",
    "demo": "demo",
    "send": "send",
    "mailbox": "mailbox",
    "backlog": "backlog",
    "audit": "audit",
    "chaos": "chaos",
    "key": "policy",
    "domain": "policy",
    "check": "check",
    "database": "database",
    "rebuild": "rebuild",
    "replay": "replay",
    "api": "roles",
    "control": "roles",
    "smtp": "roles",
    "worker": "roles",
    "ticker": "roles",
    "recorder": "roles",
}


class _Lazy(click.Group):
    """Finds a command in nightmail/commands/ by the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: first what one needs first."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return it."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"nightmail.commands.{_COMMANDS[cmd_name]}")
        return cast("click.Command", getattr(module, cmd_name))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nightmail")
def main() -> None:
    """Nightmail: email that keeps going while the main database is down.

    Settings are environment variables NIGHTMAIL_*; `nightmail check` shows them.
    """
