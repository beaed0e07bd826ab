"""Ties a command to its parent: `python leash.py PARENT COMMAND...` becomes COMMAND, and dies when PARENT does.

Run as a program of its own, because preexec_fn is unsafe in a parent with threads. Imports nothing of ours, so it can
run with `-I -S` and costs one bare interpreter start.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def leashed(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` and kills it when this process dies, even by `kill -9`. Linux only."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), *command]


def tie(parent: int) -> None:
    """Ask the kernel for SIGKILL to this process at the parent's death; elsewhere than on Linux this does nothing."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is wanted
