"""One command per process, for compose, systemd and our own supervisor. Each role is wired in nightmail/roles/."""

import importlib
import os

import click

from nightmail.complaint import load_settings
from runtime import logs


def _run(role: str, process: str, *arguments: str | int) -> None:
    """Load the role's module, which imports only what that process may know, and run it until a signal."""
    settings = load_settings()
    os.umask(0o077)  # journals and archives hold mail
    logs.setup(settings, process)
    importlib.import_module(f"nightmail.roles.{role}").run(settings, *arguments)


@click.command()
def api() -> None:
    """Run the send API."""
    _run("api", "api")


@click.command()
def control() -> None:
    """Run the control API."""
    _run("control", "control")


@click.command()
def smtp() -> None:
    """Run SMTP submission."""
    _run("smtp", "smtp")


@click.command()
@click.option("--queue", type=click.Choice(["drain", "chores"]), default="drain", show_default=True)
def worker(*, queue: str) -> None:
    """Run a worker: of deliveries, or of chores."""
    _run("worker", queue, queue)


@click.command()
def ticker() -> None:
    """Run the ticker, which keeps a tick queued for every worker."""
    _run("ticker", "ticker")


@click.command()
def recorder() -> None:
    """Run the recorder, which keeps the history in step with the events."""
    _run("recorder", "recorder")
