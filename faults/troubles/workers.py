"""A worker is killed, again and again, or stopped and continued."""

import asyncio
import os
import random
import signal
import time

from faults.checker import Kill
from faults.drill import Drill
from faults.sink import newest

_PERIOD = 0.3  # seconds of steady delivering before the next kill, on average
_HOLD = 0.5  # seconds of deliveries that get stuck
WORKER = "worker-1"


async def killed(drill: Drill) -> None:
    """`kill -9` of the only worker, each time as soon as it has worked off what the last kill left waiting."""
    end = time.monotonic() + drill.seconds * 0.9
    chance = random.Random(drill.ledger.run)  # noqa: S311 - moments, not secrets
    while time.monotonic() < end:
        await drill.kill(WORKER)
        before = newest(drill.mailbox)
        while newest(drill.mailbox) == before and time.monotonic() < end:  # noqa: ASYNC110 - it is another process's
            await asyncio.sleep(0.02)
        await drill.calm()
        await asyncio.sleep(chance.uniform(0, 2 * _PERIOD))


async def stopped(drill: Drill) -> None:
    """SIGSTOP for longer than a lease: the other worker takes over, and the stopped one is fenced when it goes on."""
    await asyncio.sleep(drill.seconds * 0.1)
    processes = drill.processes()
    pid, mailbox = processes[WORKER], processes["mailbox"]
    os.kill(mailbox, signal.SIGSTOP)  # so that the worker surely has mail in hand, its dot not yet sent
    await asyncio.sleep(_HOLD)
    at = time.time()
    os.kill(pid, signal.SIGSTOP)
    os.kill(mailbox, signal.SIGCONT)
    drill.note("stopped a worker")
    await asyncio.sleep(drill.seconds * 0.7)
    os.kill(pid, signal.SIGCONT)
    drill.kills.append(Kill(WORKER, at, time.time()))
    drill.note("continued it")
