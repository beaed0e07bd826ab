"""A change of policy is in force everywhere when its maker reads the answer."""

import asyncio

from outbox.policy import REFRESH

_SECONDS = 1.2 * REFRESH.total_seconds()


async def everywhere() -> None:
    """Wait until every process has read the change, as each does every `REFRESH`."""
    await asyncio.sleep(_SECONDS)
