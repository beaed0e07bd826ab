"""Who waits when the machine is full: what makes up the history stands behind what takes and delivers mail."""

import os
from contextlib import suppress
from pathlib import Path

RECORDER = 10  # steps of nice: about a tenth of a busy core's time is left to it
CHORES = 5  # a quarter: they give the queue's memory back, so they must not fall behind for long

_GROUP = Path("/proc/self/autogroup")


def stand_behind(steps: int) -> None:
    """Lower this process's priority, where the system has such a thing.

    Where Linux shares processors out by session (sched(7), "The autogroup feature"), a priority counts within the
    session only, and each process of a local stack is one of its own: then it is the session's that counts.
    """
    if not hasattr(os, "nice"):
        return
    priority = os.nice(steps)
    if os.getsid(0) == os.getpid():  # or it would be that of somebody's terminal
        with suppress(OSError):  # no such thing here
            _GROUP.write_text(str(priority))
