"""The full-access API key of a local stack: the one of the last start while it is good, else a fresh one."""

import asyncio

from nightmail.client_details import kept_key
from nightmail.stack_folder import StackFolder
from outbox.policy_snapshot import ApiKey, Permission, digest_of
from outbox.policy_store import PolicyStore
from runtime.connections import redis_async
from runtime.settings import Settings

_NAME = "nightmail up"


def ensure_key(settings: Settings, folder: StackFolder) -> str:
    """A token that authenticates. Called before the listeners start, so that their first snapshot has it."""
    return asyncio.run(_ensure(settings, kept_key(folder)))


async def _ensure(settings: Settings, kept: str | None) -> str:
    redis = redis_async(settings, timeout=5.0)
    try:
        store = PolicyStore(redis, settings)
        if kept and any(_is(key, kept) for key in await store.list_keys()):
            return kept
        _, token = await store.create_key(_NAME)
        return token
    finally:
        await redis.aclose()


def _is(key: ApiKey, token: str) -> bool:
    return key.digest == digest_of(token) and key.permission is Permission.FULL_ACCESS
