"""A queue that lost its memory: what webhooks had not been told yet is told after the rebuild, under the same ids."""

import asyncio
import json
from datetime import timedelta

import orjson
import pytest
import resend

from outbox.archiving import archive_once
from outbox.rebuild import Rebuild
from outbox.webhook_queue import WebhookQueue
from runtime import clock
from runtime.connections import redis_sync
from runtime.networks import parse_networks
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.receiver import Receiver, answer
from tests.fixtures.waiting import until
from worker.webhooks import telling


@pytest.fixture
async def api(settings):
    nearby = {"reachable_networks": parse_networks("127.0.0.0/8"), "webhook_timeout": timedelta(seconds=2)}
    async with running(settings.model_copy(update=nearby)) as api:
        yield api


@pytest.fixture
async def receiver():
    async with Receiver() as receiver:
        yield receiver


async def create(api, receiver):
    return (await api.sdk(resend.Webhooks.create, {"endpoint": receiver.url(), "events": ["email.sent"]}))["id"]


async def send(api):
    return (await api.client.post("/emails", json=MAIL)).json()["id"]


def ids(receiver):
    """The svix-id of each request, by the mail that it tells of."""
    told = {}
    for request in receiver.requests:
        told.setdefault(json.loads(request.body)["data"]["email_id"], []).append(request.headers["svix-id"])
    return told


def kept(api):
    """The places on this machine's disk."""
    file = api.settings.data_dir / "webhooks" / f"{api.settings.queue_prefix}.json"
    return orjson.loads(file.read_bytes()) if file.exists() else {}


async def newest(api):
    return int(await api.parts.redis.get(f"{{{api.settings.queue_prefix}}}:seq"))


async def flushed_and_rebuilt(api):
    """FLUSHALL, as far as it is this test's server, and one mail before the command mends it."""
    await api.parts.redis.flushdb()
    meanwhile = await send(api)
    await asyncio.to_thread(rebuild, api.settings)
    return meanwhile


def rebuild(settings):
    with redis_sync(settings) as redis:
        assert Rebuild(redis, settings, now=clock.now()).run(patience=0).needed


async def archive(api):
    with redis_sync(api.settings) as redis:
        assert await asyncio.to_thread(archive_once, redis, api.settings, now=clock.now() + timedelta(hours=1))


@pytest.mark.parametrize("archived", [True, False], ids=["archived", "in-the-stream-alone"])
async def test_what_waited_is_told_again_and_what_was_told_is_not(api, receiver, archived):
    """A message that waits for its next try comes under its own id; one that was taken does not come again."""
    webhook_id = await create(api, receiver)
    async with telling(api.settings):
        taken = await send(api)
        await until(lambda: len(receiver.requests) == 1)
        place = await newest(api)
        await until(lambda: kept(api).get(webhook_id) == place)
        await archive(api)
        receiver.says = answer(503)
        waiting = [await send(api) for _ in range(3)]
        await until(lambda: len(receiver.requests) == 4)
        if archived:
            await archive(api)
        before = ids(receiver)
        receiver.says = answer(200)
        meanwhile = await flushed_and_rebuilt(api)
        await until(lambda: meanwhile in ids(receiver))
        await until(lambda: all(len(ids(receiver)[email_id]) > 1 for email_id in waiting))
        assert kept(api)[webhook_id] >= place
    after = ids(receiver)
    assert after[taken] == before[taken]
    for email_id in waiting:
        assert set(after[email_id]) == set(before[email_id])
        assert len(before[email_id]) == 1


async def test_while_the_queue_has_no_memory_no_place_is_made_or_forgotten(api, receiver):
    """Lanes that look into an emptied queue leave it as it is, and so the file beside it."""
    webhook_id = await create(api, receiver)
    await send(api)
    async with telling(api.settings):
        await until(lambda: webhook_id in kept(api))
        before = kept(api)
        await api.parts.redis.flushdb()
        lane = WebhookQueue(api.parts.redis, api.settings)
        for look in (lane.look(webhook_id), lane.begin_now(webhook_id), lane.told()):
            with pytest.raises(Exception, match="nightmail rebuild queue"):
                await look
        assert not await api.parts.redis.exists(f"{{{api.settings.queue_prefix}}}:hooks")
    assert kept(api) == before


async def test_a_webhook_without_a_place_hears_what_was_lost_with_the_stream(api, receiver):
    """It was made just before, and no worker had written anything: it begins at the last event that stands."""
    await create(api, receiver)
    await api.parts.policy.refresh()
    email_id = await send(api)
    await flushed_and_rebuilt(api)
    async with telling(api.settings):
        await until(lambda: email_id in ids(receiver))
