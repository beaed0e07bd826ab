"""One suite for both queues: the fake one and the real one."""

import fakeredis
import pytest

from outbox.queue import Outbox
from runtime.connections import redis_async
from runtime.settings import Settings


@pytest.fixture(params=["fake", "valkey"])
async def redis(request):
    if request.param == "fake":
        client = fakeredis.FakeAsyncRedis()
    else:
        client = redis_async(request.getfixturevalue("settings"), timeout=5)
    yield client
    await client.aclose()


@pytest.fixture
def outbox(redis, bare_settings):
    return Outbox(redis, bare_settings)


@pytest.fixture
def bare_settings(tmp_path):
    return Settings(data_dir=tmp_path, queue_prefix=f"t{abs(hash(tmp_path))}", lane_connections=2, max_releases=2)
