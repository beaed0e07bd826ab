"""`up`, `down`, `status`: a whole stack on this machine."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import click
import orjson

from nightmail.announcement import announcement
from nightmail.client_details import ClientDetails
from nightmail.complaint import Complaint, load_settings
from nightmail.embedded import NIGHTMAIL, child_environment
from nightmail.operator_settings import operator_settings
from nightmail.stack import LocalStack
from nightmail.stack_folder import StackFolder, read_environment
from runtime.settings import Settings

_PATIENCE = 90.0  # seconds for a stack to come up in the background, or to go down
_NOT_RUNNING = 3  # exit code of `status`, as of init scripts


@click.command()
@click.option("--detach", is_flag=True, help="Return when it serves; `nightmail down` stops it.")
@click.option("--silent", is_flag=True, hidden=True, help="Print nothing but errors: stdout is a file.")
def up(*, detach: bool, silent: bool) -> None:
    """Start everything on this machine: API, SMTP, workers, recorder, queue, database, mailbox."""
    settings = load_settings()
    if detach:
        _detach(settings)
        return

    def announce(details: ClientDetails, resolved: Settings, seconds: float) -> None:
        if not silent:
            click.echo(announcement(details, resolved, seconds) + "\nCtrl-C stops it.")

    LocalStack(settings).run(announce)
    if not silent:
        click.echo("Stopped.")


def _detach(settings: Settings) -> None:
    began = time.monotonic()
    folder = StackFolder(settings.data_dir.absolute())
    with folder.hold():  # only to complain early if it is taken or cannot be written
        log = folder.log / "supervisor.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            [*NIGHTMAIL, "up", "--silent"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=child_environment({}),
            start_new_session=True,
        )
    _await_ready(process, folder, log)
    details = ClientDetails.from_environment(read_environment(folder.local_env))
    click.echo(announcement(details, operator_settings(), time.monotonic() - began))
    click.echo("It runs in the background; `nightmail down` stops it.")


def _await_ready(process: subprocess.Popen[bytes], folder: StackFolder, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Complaint(log.read_text(errors="replace").strip().removeprefix("Error: "))
        state = folder.state()
        if state and state["pid"] == process.pid and state["state"] == "ready":
            return
        time.sleep(0.05)
    raise Complaint(f"Not ready after {_PATIENCE:.0f} s; see {folder.log}.")


@click.command()
def down() -> None:
    """Stop the stack of this data folder."""
    folder = StackFolder(load_settings().data_dir.absolute())
    holder = folder.holder()
    if holder is None:
        click.echo(f"No stack with the data folder {folder.data_dir} is running.")
        return
    os.kill(holder, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while folder.holder() == holder:
        if time.monotonic() > deadline:
            raise Complaint(f"Process {holder} still runs after {_PATIENCE:.0f} s.")
        time.sleep(0.05)
    click.echo("Stopped.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def status(context: click.Context, *, as_json: bool) -> None:
    """Say what runs. Exit code 3 when nothing does."""
    folder = StackFolder(load_settings().data_dir.absolute())
    state = folder.state()
    if as_json:
        click.echo(orjson.dumps(state or {"state": "stopped"}, option=orjson.OPT_INDENT_2))
    elif state is None:
        click.echo(f"No stack with the data folder {folder.data_dir} is running.")
    else:
        click.echo(_told(state))
    if state is None:
        context.exit(_NOT_RUNNING)


def _told(state: dict[str, Any]) -> str:
    lines = [f"{state['state']}: {state['url']}, process {state['pid']}, since {state['started_at']}"]
    lines += [f"  data folder  {state['data_dir']}"]
    lines += [f"  {name:<20} {port}" for name, port in state["ports"].items()]
    lines += [f"  {p['name']:<12} process {p['pid'] or '-':<8} restarts {p['restarts']}" for p in state["processes"]]
    return "\n".join(lines)
