"""The full-access API key of a local stack: the one of the last start while it is good, else a fresh one."""

import asyncio

from nightmail.client_details import kept_key
from nightmail.complaint import Complaint
from nightmail.stack_folder import StackFolder
from outbox.generation import Memory
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
        if not await Memory(settings).look(redis):
            return _known_before(kept)
        store = PolicyStore(redis, settings)
        if kept and any(_is(key, kept) for key in await store.list_keys()):
            return kept
        _, token = await store.create_key(_NAME)
        return token
    finally:
        await redis.aclose()


def _known_before(kept: str | None) -> str:
    """The key of the last start, for a queue that lost its memory: it is in the snapshot of the keys on this disk."""
    if kept is None:
        raise Complaint("The queue has lost its memory, and knows no API key: `nightmail rebuild queue` first.")
    return kept


def _is(key: ApiKey, token: str) -> bool:
    return key.digest == digest_of(token) and key.permission is Permission.FULL_ACCESS
