"""The command line. Commands are imported when they are called, so that each process loads only what it needs."""

import click

from nightmail.lazy_group import LazyGroup

_COMMANDS = {
    "up": "stack",
    "down": "stack",
    "status": "stack",
    "demo": "demo",
    "send": "send",
    "mailbox": "mailbox",
    "backlog": "backlog",
    "held": "held",
    "redrive": "held",
    "audit": "audit",
    "chaos": "chaos",
    "key": "key",
    "domain": "domain",
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


_TABLE = {name: (module, name) for name, module in _COMMANDS.items()}


@click.group(cls=LazyGroup, table=_TABLE, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nightmail")
def main() -> None:
    """Nightmail: email that keeps going while the main database is down.

    Settings are environment variables NIGHTMAIL_*; `nightmail check` shows them.
    """
