"""Ending tasks that would go on for ever."""

import asyncio

_AGAIN = 0.1  # seconds


async def end(*tasks: asyncio.Task[object] | None) -> None:
    """Cancel them, again and again until all have ended; None stands for one that was never begun.

    Once is not enough: before Python 3.12 `asyncio.wait_for`, with which the Redis client sends, loses a cancellation
    that comes just as the wait ends, and then a loop goes on as if nobody had asked it to end.
    """
    pending = {task for task in tasks if task is not None and not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN)
