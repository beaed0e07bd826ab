"""API keys are looked up in memory, follow the queue within a second, and outlive it."""

import pytest

from outbox.errors import KeyUnknown, Unavailable
from outbox.policy import Permission, Policy
from outbox.policy_store import PolicyStore
from runtime.connections import redis_async
from tests.fixtures.waiting import until


@pytest.fixture
async def redis(settings):
    client = redis_async(settings, timeout=1)
    yield client
    await client.aclose()


@pytest.fixture
async def policy(redis, settings):
    policy = Policy(redis, settings)
    await policy.start()
    yield policy
    await policy.stop()


def knows(policy, token):
    try:
        policy.authenticate(token)
    except KeyUnknown:
        return False
    return True


async def test_key_works_until_revoked(redis, settings, policy):
    """A new key is known within a second, and a revoked one unknown."""
    store = PolicyStore(redis, settings)
    key, token = await store.create_key("app", permission=Permission.SENDING_ACCESS, domain="ours.test", rate_limit=5)
    await until(lambda: knows(policy, token))
    assert policy.authenticate(token) == key
    assert [k.id for k in await store.list_keys()] == [key.id]
    assert await store.revoke_key(key.id)
    assert not await store.revoke_key(key.id)
    await until(lambda: not knows(policy, token))
    assert await store.list_keys() == []


async def test_token_is_stored_nowhere(redis, settings, policy):
    """Neither the queue nor the disk holds a token."""
    _, token = await PolicyStore(redis, settings).create_key("app")
    await until(lambda: knows(policy, token))
    secret_part = token[3:].encode()
    stored = await redis.hgetall(f"{{{settings.queue_prefix}}}:policy")
    events = await redis.xrange(f"{{{settings.queue_prefix}}}:events")
    on_disk = b"".join(p.read_bytes() for p in settings.data_dir.rglob("*") if p.is_file())
    for place in (repr(stored).encode(), repr(events).encode(), on_disk):
        assert secret_part not in place


async def test_snapshot_outlives_the_queue(redis, settings, policy):
    """A process that starts without the queue knows the keys from its disk, and of others says it cannot tell."""
    _, token = await PolicyStore(redis, settings).create_key("app")
    await until(lambda: knows(policy, token))
    away = redis_async(settings.model_copy(update={"redis_url": type(settings.redis_url)("redis://127.0.0.1:1/0")}))
    blind = Policy(away, settings)
    await blind.start()
    assert blind.authenticate(token).name == "app"
    with pytest.raises(Unavailable):
        blind.authenticate("re_12345678_123456789012345678901234")
    await blind.stop()
    await away.aclose()


async def test_emptied_queue_does_not_revoke_the_keys(redis, settings, policy):
    """A snapshot in which most keys vanished without a revocation is refused."""
    _, token = await PolicyStore(redis, settings).create_key("app")
    await until(lambda: knows(policy, token))
    await redis.flushdb()
    await policy.refresh()
    assert knows(policy, token)


async def test_damaged_snapshot_is_not_believed(redis, settings, policy):
    """A copy on disk whose checksum is wrong is not used."""
    _, token = await PolicyStore(redis, settings).create_key("app")
    await until(lambda: knows(policy, token))
    file = settings.data_dir / "policy" / "snapshot.json"
    file.write_bytes(file.read_bytes().replace(b'"app"', b'"abb"'))
    away = redis_async(settings.model_copy(update={"redis_url": type(settings.redis_url)("redis://127.0.0.1:1/0")}))
    blind = Policy(away, settings)
    await blind.start()
    with pytest.raises(Unavailable):
        blind.authenticate(token)
    await blind.stop()
    await away.aclose()


async def test_only_verified_domains_when_asked_for(redis, settings, policy):
    """With verification on, a domain sends once it is verified."""
    strict = Policy(redis, settings.model_copy(update={"verified_domains_only": True}))
    assert policy.may_send_from("any.test")
    await strict.refresh()
    assert not strict.may_send_from("ours.test")
    await PolicyStore(redis, settings).set_domain("Ours.test", verified=True)
    await strict.refresh()
    assert strict.may_send_from("ours.TEST")
