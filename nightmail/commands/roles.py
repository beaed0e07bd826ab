"""One command per process, for compose, systemd and our own supervisor. Each role is wired in nightmail/roles/."""

import importlib
import os

import click

from nightmail.complaint import load_settings
from nightmail.several import Several
from runtime import logs


def _run(role: str, process: str, *arguments: str | int) -> None:
    """Load the role's module, which imports only what that process may know, and run it until a signal."""
    settings = load_settings()
    os.umask(0o077)  # journals and archives hold mail
    logs.setup(settings, process)
    importlib.import_module(f"nightmail.roles.{role}").run(settings, *arguments)


_one_of_several = click.option("--share", is_flag=True, hidden=True, help="This is one of several processes.")


def _run_all(role: str, *, share: bool) -> None:
    """Run as many processes of a role that listens as the settings ask."""
    settings = load_settings()
    count: int = getattr(settings, f"{role}_processes")
    if share or count == 1:
        _run(role, role)
        return
    logs.setup(settings, role)
    Several(role, settings, count=count).run()


@click.command()
@_one_of_several
def api(*, share: bool) -> None:
    """Run the send API."""
    _run_all("api", share=share)


@click.command()
def control() -> None:
    """Run the control API."""
    _run("control", "control")


@click.command()
@_one_of_several
def smtp(*, share: bool) -> None:
    """Run SMTP submission."""
    _run_all("smtp", share=share)


@click.command()
@click.option("--queue", type=click.Choice(["drain", "chores", "webhooks"]), default="drain", show_default=True)
def worker(*, queue: str) -> None:
    """Run a worker: of deliveries, of chores, or of webhooks."""
    _run("worker", queue, queue)


@click.command()
def ticker() -> None:
    """Run the ticker, which keeps a tick queued for every worker."""
    _run("ticker", "ticker")


@click.command()
def recorder() -> None:
    """Run the recorder, which keeps the history in step with the events."""
    _run("recorder", "recorder")
