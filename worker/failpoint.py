"""Fail points: `NIGHTMAIL_FAILPOINT=before-dot:40` has a worker `kill -9` itself the 40th time it comes to that step.

For drills only. Without the variable every passage is a call of a function that does nothing.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import Callable
from enum import StrEnum

VARIABLE = "NIGHTMAIL_FAILPOINT"


class Step(StrEnum):
    """Where a worker can die, in the order of a delivery."""

    AFTER_CLAIM = "after-claim"  # the lease is ours, nothing was said to the next hop
    BEFORE_MAIL = "before-mail"
    AFTER_RCPT = "after-rcpt"  # the attempt is noted as begun
    BEFORE_DOT = "before-dot"
    AFTER_DOT = "after-dot"  # the next hop may have the message
    AFTER_250 = "after-250"  # it has; our receipt is not written
    AFTER_RECEIPT = "after-receipt"
    MID_SETTLE = "mid-settle"  # the queue knows of a group, and the journal has no mark of it


def armed(order: str | None, *, die: Callable[[], None]) -> Callable[[Step], None]:
    """What to call at each step, given the variable's value. Raises ValueError for an unknown step."""
    if not order:
        return lambda _: None
    name, _, passage = order.partition(":")
    chosen, last = Step(name), int(passage or 1)
    passages = itertools.count(1)

    def reach(step: Step) -> None:
        if step is not chosen or next(passages) != last:
            return
        if step is Step.AFTER_DOT:  # a transport may write at the end of the loop's turn: then the dot is out
            asyncio.get_running_loop().call_soon(die)
        else:
            die()

    return reach


def _kill_ourselves() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


reach = armed(os.environ.get(VARIABLE), die=_kill_ourselves)
