"""What a running stack leaves in its data folder for other commands: the lock, its state, its settings, the key.

run/lock        held while the stack runs
run/stack.json  processes, ports, restarts
run/stack.env   the NIGHTMAIL_* the processes were started with, owner only
local.env       what a client needs, owner only
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from nightmail.complaint import Complaint
from nightmail.private import write_private


class StackFolder:
    """The data folder as a place for one stack."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.run = data_dir / "run"
        self.log = data_dir / "log"
        self.local_env = data_dir / "local.env"
        self.stack_env = self.run / "stack.env"
        self._lock = self.run / "lock"
        self._state = self.run / "stack.json"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the folder for one stack; a second one hears who has it. The kernel lets go when the holder dies."""
        try:
            self.run.mkdir(parents=True, exist_ok=True)
            self.log.mkdir(exist_ok=True)
            handle = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"The data folder {self.data_dir} cannot be written ({error.strerror}); see NIGHTMAIL_DATA_DIR."
            raise Complaint(message) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            yield
        except BlockingIOError:
            raise Complaint(
                f"A stack with the data folder {self.data_dir} is running already (process {self.holder()}). "
                "Stop it with `nightmail down`, or choose another folder with NIGHTMAIL_DATA_DIR."
            ) from None
        finally:
            os.close(handle)

    def holder(self) -> int | None:
        """The process that holds the folder, if one does."""
        try:
            handle = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(handle, 32) or 0) or None
        finally:
            os.close(handle)
        return None

    def publish(self, state: Mapping[str, Any]) -> None:
        """Replace stack.json, so that a reader never sees half of it."""
        write_private(self._state, orjson.dumps(state, option=orjson.OPT_INDENT_2).decode())

    def state(self) -> dict[str, Any] | None:
        """What the running stack published last; None when none is running."""
        if self.holder() is None:
            return None
        try:
            published: dict[str, Any] = orjson.loads(self._state.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None
        return published


def write_environment(path: Path, variables: Mapping[str, str]) -> None:
    """NAME=value lines that a shell can source, owner only. Values hold no quotes or spaces of their own."""
    write_private(path, "".join(f"{name}='{value}'\n" for name, value in variables.items()))


def read_environment(path: Path) -> dict[str, str]:
    """The inverse of `write_environment`; empty when there is no such file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name: value.strip().strip("'") for name, _, value in pairs}
