"""A stack for the demo alone, or for a drill: in a temporary folder, on free ports, gone afterwards."""

import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nightmail.complaint import Complaint
from nightmail.embedded import NIGHTMAIL, child_environment
from nightmail.leash import leashed
from nightmail.ports import LISTENERS
from nightmail.stack_folder import StackFolder

_PATIENCE = 60.0  # seconds to come up
_GRACE = 60.0  # seconds to go down


@contextmanager
def own_stack(variables: Mapping[str, str] | None = None) -> Iterator[StackFolder]:
    """Start it with these NIGHTMAIL_* variables, wait until it serves, and stop it at the end. Raises Complaint."""
    with tempfile.TemporaryDirectory(prefix="nightmail-demo-") as name, stack_in(Path(name), variables) as folder:
        yield folder


@contextmanager
def stack_in(data_dir: Path, variables: Mapping[str, str] | None = None) -> Iterator[StackFolder]:
    """The same in a folder that stays."""
    folder = StackFolder(data_dir)
    added = {f"NIGHTMAIL_{port.upper()}": "0" for port in LISTENERS} | {"NIGHTMAIL_DATA_DIR": str(data_dir)}
    log = data_dir / "supervisor.log"
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            leashed([*NIGHTMAIL, "up", "--silent"]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=child_environment(added | dict(variables or {})),
            start_new_session=True,
        )
    try:
        _await_ready(process, folder, log)
        yield folder
    finally:
        process.terminate()
        process.wait(_GRACE)


def _await_ready(process: subprocess.Popen[bytes], folder: StackFolder, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Complaint(log.read_text(errors="replace").strip().removeprefix("Error: "))
        state = folder.state()
        if state and state["state"] == "ready" and state["pid"] == process.pid:  # and not one that was left behind
            return
        time.sleep(0.05)
    raise Complaint(f"The demo's stack is not ready after {_PATIENCE:.0f} s; its logs are in {folder.log}.")
