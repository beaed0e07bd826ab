"""What the commands on policy share: the queue, for the time of one change."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import RedisError

from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from outbox.policy_store import PolicyStore
from runtime.connections import redis_async

T = TypeVar("T")
_REPLY = 5.0  # seconds


def with_store(work: Callable[[PolicyStore], Awaitable[T]]) -> T:
    """The result of `work` on the store of the running stack. Raises Complaint when the queue does not answer."""
    settings = operator_settings()

    async def run() -> T:
        redis = redis_async(settings, timeout=_REPLY)
        try:
            return await work(PolicyStore(redis, settings))
        finally:
            await redis.aclose()

    try:
        return asyncio.run(run())
    except (RedisError, OSError):
        raise Complaint("The queue does not answer; see NIGHTMAIL_REDIS_URL, or NIGHTMAIL_DATA_DIR.") from None
