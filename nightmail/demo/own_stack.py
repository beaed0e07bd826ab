"""A stack for the demo alone: in a temporary folder, on free ports, gone afterwards."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
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
def own_stack() -> Iterator[StackFolder]:
    """Start it, wait until it serves, and stop it at the end. Raises Complaint."""
    with tempfile.TemporaryDirectory(prefix="nightmail-demo-") as name:
        folder = StackFolder(Path(name))
        added = {f"NIGHTMAIL_{port.upper()}": "0" for port in LISTENERS} | {"NIGHTMAIL_DATA_DIR": name}
        log = Path(name) / "supervisor.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - the command is ours
                leashed([*NIGHTMAIL, "up", "--silent"]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=child_environment(added),
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
        if state and state["state"] == "ready":
            return
        time.sleep(0.05)
    raise Complaint(f"The demo's stack is not ready after {_PATIENCE:.0f} s; its logs are in {folder.log}.")
