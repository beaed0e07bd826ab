"""Ending tasks."""

import asyncio

from runtime.tasks import end


async def test_a_task_that_loses_a_cancellation_ends_all_the_same():
    """As one does whose Redis client is just sending."""
    cancelled: list[bool] = []

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                if len(cancelled) > 1:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end(task)
    assert task.cancelled()
    assert len(cancelled) == 2


async def test_tasks_that_need_no_ending():
    """None stands for one that was never begun; one that failed has ended too."""

    async def fail():
        raise ValueError

    failed = asyncio.create_task(fail())
    await asyncio.wait([failed])
    async with asyncio.timeout(5):
        await end(None, failed)
    assert isinstance(failed.exception(), ValueError)
