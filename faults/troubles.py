"""What is broken, and when. Each trouble lasts about as long as the load."""

import asyncio
import os
import signal

from faults.drill import Drill

MODES = ("down", "slow", "exhausted", "dropped")
KILLABLE = ("api", "smtp", "worker-1", "valkey", "recorder", "control", "mailbox", "chores", "ticker")


async def database_modes(drill: Drill) -> None:
    """The chaos switch through every mode, a breath of health between two of them."""
    each = drill.load.mails / drill.load.rate / (len(MODES) + 0.5)
    for mode in MODES:
        await asyncio.sleep(each * 0.2)
        await drill.observer.switch_database(mode, seconds=each * 0.7)
        drill.note(f"database {mode} for {each * 0.7:.0f} s")
        await asyncio.sleep(each * 0.8)
    await drill.observer.switch_database("up")


async def kill_each(drill: Drill) -> None:
    """`kill -9` of every process in turn, while the database goes through its modes."""
    modes = asyncio.create_task(_patiently(drill))
    pause = drill.load.mails / drill.load.rate / (len(KILLABLE) + 1)
    for name in KILLABLE:
        await asyncio.sleep(pause)
        await kill(drill, name)
    await modes


async def kill(drill: Drill, name: str) -> None:
    """`kill -9` one process, and wait until the supervisor has another in its place."""
    pid = drill.processes()[name]
    os.kill(pid, signal.SIGKILL)
    began = asyncio.get_running_loop().time()
    while drill.processes().get(name) in {None, pid}:  # noqa: ASYNC110 - it is another process's
        await asyncio.sleep(0.02)
    drill.note(f"killed {name}; started again after {asyncio.get_running_loop().time() - began:.2f} s")


async def _patiently(drill: Drill) -> None:
    """`database_modes`, although the API that holds the switch may be the one that was just killed."""
    each = drill.load.mails / drill.load.rate / (len(MODES) + 0.5)
    for mode in MODES:
        await asyncio.sleep(each * 0.2)
        await drill.observer.switch_database(mode, seconds=each * 0.7, patience=30)
        await asyncio.sleep(each * 0.8)
    await drill.observer.switch_database("up", patience=30)
