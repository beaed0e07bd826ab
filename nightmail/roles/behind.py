"""Who waits when the machine is full: what makes up the history stands behind what takes and delivers mail."""

import os

RECORDER = 10  # steps of nice: about a tenth of a busy core's time is left to it
CHORES = 5  # a quarter: they give the queue's memory back, so they must not fall behind for long


def stand_behind(steps: int) -> None:
    """Lower this process's priority, where the system has such a thing."""
    if hasattr(os, "nice"):
        os.nice(steps)
