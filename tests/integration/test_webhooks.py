"""Webhooks end to end: made by the SDK, told by real workers to real servers, verified by the SDKs' own code."""

import asyncio
import contextlib
import json
from datetime import timedelta

import pytest
import resend
from standardwebhooks import Webhook as StandardWebhook

from outbox.archiving import archive_once
from outbox.journal import Journal
from outbox.retire import retire_once
from outbox.webhook import Webhooks
from outbox.webhook_queue import HookAttempt, Payload, WebhookQueue
from runtime import clock
from runtime.connections import redis_sync
from runtime.networks import parse_networks
from runtime.outside import Outside
from runtime.sealing import Seal
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.next_hop import NextHop
from tests.fixtures.receiver import SILENCE, Receiver, answer
from tests.fixtures.waiting import until
from tests.fixtures.worker_process import TICKER, WEBHOOKS
from tests.fixtures.worker_process import running as process
from worker.process import delivering
from worker.webhooks import telling

SOON = (timedelta(0),) * 7
MAIL_EVENTS = ["email.sent", "email.delivered", "email.bounced", "email.suppressed", "suppression.added"]


@pytest.fixture
def reachable(settings):
    return settings.model_copy(
        update={"reachable_networks": parse_networks("127.0.0.0/8"), "webhook_timeout": timedelta(seconds=2)}
    )


@pytest.fixture
async def api(reachable):
    async with running(reachable) as api:
        yield api


@pytest.fixture
async def receiver():
    async with Receiver() as receiver:
        yield receiver


async def create(api, receiver, events=("email.sent",)):
    made = await api.sdk(resend.Webhooks.create, {"endpoint": receiver.url("/in"), "events": list(events)})
    assert made["object"] == "webhook"
    return made["id"], made["signing_secret"]


async def send(api, to="you@there.test"):
    return (await api.sdk(resend.Emails.send, MAIL | {"to": to}))["id"]


def fields(got):
    """An object of the SDK, less what the SDK adds and when it was made."""
    assert got["created_at"].endswith("+00")
    return {name: value for name, value in got.items() if name not in {"http_headers", "created_at"}}


def verified(request, secret):
    """The payload, as the official SDKs accept it."""
    headers = {name: request.headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")}
    options = {"payload": request.body.decode(), "headers": headers, "webhook_secret": secret}
    payload = resend.Webhooks.verify(options)
    standard = {f"webhook-{name}": value for name, value in headers.items()}
    assert StandardWebhook(secret).verify(request.body, standard) == payload
    return payload


@contextlib.asynccontextmanager
async def worker(settings, hop):
    placed = settings.model_copy(update={"mailbox_smtp_port": hop.port})
    async with delivering(placed, "w", Journal(placed.data_dir / "journal" / "drain-1"), grace=1):
        yield


async def test_each_recipient_is_told(api, receiver):
    """Sent, delivered, bounced, suppressed: one signed message for each recipient."""
    _, secret = await create(api, receiver, MAIL_EVENTS)
    async with (
        NextHop({"RCPT": lambda line: "550 5.1.1 unknown" if "gone" in line else "250 ok"}) as hop,
        worker(api.settings, hop),
        telling(api.settings),
    ):
        first = await send(api, ["ann@one.test", "gone@one.test"])
        await until(lambda: len(receiver.requests) == 5)
        second = await send(api, "gone@one.test")
        await until(lambda: len(receiver.requests) == 7)
    told = {}
    for request in receiver.requests:
        payload = verified(request, secret)
        data = payload["data"]
        told[payload["type"], data.get("email_id"), *data.get("to", ())] = data
    assert set(told) == {
        ("email.sent", first, "ann@one.test"), ("email.sent", first, "gone@one.test"),
        ("email.delivered", first, "ann@one.test"), ("email.bounced", first, "gone@one.test"),
        ("suppression.added", None), ("email.sent", second, "gone@one.test"),
        ("email.suppressed", second, "gone@one.test"),
    }  # fmt: skip
    assert told["email.bounced", first, "gone@one.test"]["bounce"]["diagnosticCode"] == ["smtp; 550 5.1.1 unknown"]
    assert told["suppression.added", None]["source_id"] == first
    assert len({request.headers["svix-id"] for request in receiver.requests}) == 7


async def test_changes_of_domains_and_suppressions_are_told(api, receiver):
    """What was made, changed or taken away, as it then was, without a secret."""
    happenings = ["domain.created", "domain.updated", "domain.deleted", "suppression.added", "suppression.removed"]
    _, secret = await create(api, receiver, happenings)
    domain = await api.sdk(resend.Domains.create, {"name": "told.test"})
    await api.sdk(resend.Domains.verify, domain["id"])
    await api.sdk(resend.Domains.remove, domain["id"])
    entry = await api.sdk(resend.Suppressions.add, {"email": "ann@one.test"})
    await api.sdk(resend.Suppressions.remove, entry["id"])
    await api.store.set_domain("allowed.test", verified=True)
    async with telling(api.settings):
        await until(lambda: len(receiver.requests) == 5)
    told = {payload["type"]: payload["data"] for payload in (verified(r, secret) for r in receiver.requests)}
    assert {kind: data["id"] for kind, data in told.items()} == dict.fromkeys(
        happenings[:3], domain["id"]
    ) | dict.fromkeys(happenings[3:], entry["id"])
    assert [told[kind]["status"] for kind in happenings[:3]] == ["not_started", "pending", "pending"]
    assert told["domain.created"]["records"] == domain["records"]
    assert all(b"sealed" not in request.body for request in receiver.requests)


async def test_the_sdk_surface(api, receiver):
    """Create, get, list, update, remove, in the SDK's own types; errors name the field."""
    webhook_id, secret = await create(api, receiver)
    got = await api.sdk(resend.Webhooks.get, webhook_id)
    assert secret.startswith("whsec_")
    assert fields(got) == {
        "object": "webhook", "id": webhook_id, "status": "enabled", "endpoint": receiver.url("/in"),
        "events": ["email.sent"], "signing_secret": secret,
    }  # fmt: skip
    change = {"webhook_id": webhook_id, "status": "disabled", "events": ["email.bounced"]}
    assert (await api.sdk(resend.Webhooks.update, change))["id"] == webhook_id
    listed = await api.sdk(resend.Webhooks.list)
    assert [(w["id"], w["status"], w["events"]) for w in listed["data"]] == [
        (webhook_id, "disabled", ["email.bounced"])
    ]
    assert "signing_secret" not in listed["data"][0]
    assert (await api.sdk(resend.Webhooks.remove, webhook_id))["deleted"] is True
    for call in (resend.Webhooks.get, resend.Webhooks.remove, resend.Webhooks.list_events):
        with pytest.raises(resend.exceptions.ResendError, match="Webhook not found"):
            await api.sdk(call, webhook_id)
    for endpoint in ("ftp://x.test", "http://10.0.0.1/", "http://169.254.169.254/", "https://u:p@x.test/"):
        with pytest.raises(resend.exceptions.ResendError, match="Invalid `endpoint` field"):
            await api.sdk(resend.Webhooks.create, {"endpoint": endpoint, "events": ["email.sent"]})
    for events in ([], ["email.unknown"]):
        with pytest.raises(resend.exceptions.ResendError, match="Invalid `events` field"):
            await api.sdk(resend.Webhooks.create, {"endpoint": "https://x.test", "events": events})


async def test_secrets_are_sealed_and_in_no_event(api, receiver):
    """Neither the queue nor the events hold the secret."""
    _, secret = await create(api, receiver)
    prefix = f"{{{api.settings.queue_prefix}}}"
    held = await api.parts.redis.hgetall(f"{prefix}:policy")
    events = await api.parts.redis.xrange(f"{prefix}:events")
    assert secret[6:].encode() not in b"".join(held.values())
    assert b"sealed" not in repr(events).encode()


async def test_retries_keep_the_id_until_it_is_taken(api, receiver):
    """Any answer but 2yz is tried again under the same id with a new signature; attempts can be looked at."""
    answers = iter([answer(500, b"broken"), answer(302, location="http://127.0.0.1:1/"), answer(204)])
    receiver.says = lambda _: next(answers)
    webhook_id, secret = await create(api, receiver)
    async with telling(api.settings, retries=SOON):
        await send(api)
        await until(lambda: len(receiver.requests) == 3)
        (event,) = (await api.sdk(resend.Webhooks.list_events, webhook_id))["data"]
        await until(lambda: _has_status(api, webhook_id, event["id"], "success"))
    assert {request.headers["svix-id"] for request in receiver.requests} == {event["id"]}
    assert verified(receiver.requests[-1], secret)["type"] == event["type"] == "email.sent"
    attempts = (await api.sdk(resend.Webhooks.list_event_attempts, webhook_id, event["id"]))["data"]
    assert [(a["http_status_code"], a["response"]) for a in attempts] == [(204, ""), (302, ""), (500, "broken")]
    got = await api.sdk(resend.Webhooks.get_event, webhook_id, event["id"])
    assert (got["status"], got["next_attempt_at"]) == ("success", None)
    assert got["payload"] == json.loads(receiver.requests[0].body)


async def _has_status(api, webhook_id, event_id, status):
    return (await api.sdk(resend.Webhooks.get_event, webhook_id, event_id))["status"] == status


async def test_after_eight_attempts_it_has_failed_and_can_be_replayed(api, receiver):
    """A replay goes out under the same id."""
    receiver.says = answer(503)
    webhook_id, _ = await create(api, receiver)
    async with telling(api.settings, retries=SOON):
        await send(api)
        await until(lambda: len(receiver.requests) == 8)
        (event,) = (await api.sdk(resend.Webhooks.list_events, webhook_id))["data"]
        await until(lambda: _has_status(api, webhook_id, event["id"], "failed"))
        receiver.says = answer(200)
        assert (await api.sdk(resend.Webhooks.replay_event, webhook_id, event["id"]))["id"] == event["id"]
        await until(lambda: _has_status(api, webhook_id, event["id"], "success"))
    assert len(receiver.requests) == 9


async def test_a_fault_of_ours_is_an_attempt_too(api, receiver, monkeypatch):
    """What cannot even be asked has failed after eight attempts, and is not claimed for ever."""

    async def ask(*_, **__):
        raise TypeError

    monkeypatch.setattr(Outside, "ask", ask)
    webhook_id, _ = await create(api, receiver)
    async with telling(api.settings, retries=SOON):
        await send(api)
        await until(lambda: _has_ended(api, webhook_id))
    (event,) = (await api.sdk(resend.Webhooks.list_events, webhook_id))["data"]
    attempts = (await api.sdk(resend.Webhooks.list_event_attempts, webhook_id, event["id"]))["data"]
    assert [(a["http_status_code"], a["response"]) for a in attempts] == [(0, "the attempt failed here")] * 8


async def _has_ended(api, webhook_id):
    try:
        events = (await api.sdk(resend.Webhooks.list_events, webhook_id))["data"]
    except resend.exceptions.ResendError:  # 503 on a busy machine: ask again
        return False
    return [event["status"] for event in events] == ["failed"]


async def test_a_hanging_endpoint_holds_up_no_other(api, receiver):
    """While one endpoint answers nothing at all, the other hears everything."""
    async with Receiver(SILENCE) as hanging, telling(api.settings):
        await create(api, hanging)
        await create(api, receiver)
        for _ in range(30):
            await send(api)
        await until(lambda: len(receiver.requests) == 30)
        assert hanging.requests


async def test_a_rotated_secret_signs_on_beside_the_new_one(api, receiver):
    """Both secrets verify each message; a further rotation keeps all that are not over."""
    webhook_id, old = await create(api, receiver)
    new = (await api.sdk(resend.Webhooks.rotate_signing_secret, webhook_id))["signing_secret"]
    assert new != old
    assert (await api.sdk(resend.Webhooks.get, webhook_id))["signing_secret"] == new
    await api.parts.policy.refresh()
    async with telling(api.settings):
        await send(api)
        await until(lambda: receiver.requests)
    assert verified(receiver.requests[0], old) == verified(receiver.requests[0], new)
    webhooks = Webhooks(api.store, Seal.from_settings(api.settings))
    webhook = await webhooks.get(webhook_id)
    a_day_later = clock.now() + timedelta(hours=25)
    assert webhook.signing_secrets(Seal.from_settings(api.settings), now=a_day_later) == [new]


async def test_after_days_of_failures_it_is_disabled(api, receiver):
    """Then it is told nothing more, until it is enabled again; from then on it hears what happens."""
    receiver.says = answer(500)
    webhook_id, _ = await create(api, receiver)
    tired = api.settings.model_copy(update={"webhook_give_up": timedelta(0)})
    async with telling(tired):
        await send(api)
        await until(lambda: _is(api, webhook_id, "disabled"))
    missed = await send(api)
    receiver.says = answer(200)
    await api.sdk(resend.Webhooks.update, {"webhook_id": webhook_id, "status": "enabled"})
    last = await send(api)
    async with telling(api.settings):
        await until(lambda: last in repr(receiver.requests))
    assert missed not in repr(receiver.requests)


async def _is(api, webhook_id, status):
    return (await api.sdk(resend.Webhooks.get, webhook_id))["status"] == status


async def test_all_of_it_works_without_the_database(api, receiver):
    """Made, told, listed and removed while the database is down."""
    down = await api.client.post("/chaos/database", json={"mode": "down", "for_seconds": 60})
    assert down.status_code == 200
    webhook_id, secret = await create(api, receiver)
    async with telling(api.settings):
        await send(api)
        await until(lambda: receiver.requests)
    verified(receiver.requests[0], secret)
    assert len((await api.sdk(resend.Webhooks.list_events, webhook_id))["data"]) == 1
    added = await api.sdk(resend.Suppressions.add, {"email": "ann@one.test"})
    assert (await api.sdk(resend.Suppressions.get, "ann@one.test"))["id"] == added["id"]
    assert (await api.sdk(resend.Webhooks.remove, webhook_id))["deleted"]


async def test_what_happened_during_a_long_stop_is_told_from_the_archive(api, receiver):
    """The stream was cut and the queue has forgotten the mail; its events are told all the same."""
    webhook_id, _ = await create(api, receiver, ["email.delivered"])
    email_id = await send(api)
    await WebhookQueue(api.parts.redis, api.settings).begin_now(webhook_id)  # it had read so far when it stopped
    async with NextHop() as hop, worker(api.settings, hop):
        await until(lambda: hop.received)
        await until(lambda: _ended(api, email_id))
    with redis_sync(api.settings) as redis:
        later = clock.now() + timedelta(hours=1)
        short = api.settings.model_copy(update={"stream_keep": 1})
        assert archive_once(redis, short, now=later)
        retire_once(redis, short, now=later)
        prefix = f"{{{api.settings.queue_prefix}}}"
        redis.xtrim(f"{prefix}:events", maxlen=0)
        assert not redis.exists(f"{prefix}:m:{email_id}")
    async with telling(api.settings):
        await until(lambda: receiver.requests)
    assert json.loads(receiver.requests[0].body)["data"]["email_id"] == email_id


async def _ended(api, email_id):
    return (await api.sdk(resend.Emails.get, email_id))["last_event"] == "delivered"


async def test_a_worker_that_dies_is_followed_by_another(api, receiver):
    """Its claim comes back after the lease, under the same id; what the dead one says then changes nothing."""
    webhook_id, _ = await create(api, receiver)
    queue = WebhookQueue(api.parts.redis, api.settings)
    seen = await queue.look(webhook_id)
    payload = Payload("msg_1", "email.sent", clock.now(), b"{}")
    put = {"after": seen.place, "until": seen.newest, "now": clock.now()}
    assert await queue.put(webhook_id, [payload], **put)
    assert await queue.put(webhook_id, [payload], **put | {"after": seen.newest})  # told again: known
    (dead,) = await queue.claim(webhook_id, lease_ms=1000, limit=9, now=clock.now())
    assert await queue.claim(webhook_id, lease_ms=1000, limit=9, now=clock.now()) == []
    later = clock.now() + timedelta(seconds=2)
    (living,) = await queue.claim(webhook_id, lease_ms=1000, limit=9, now=later)
    assert (living.id, living.tries) == ("msg_1", 0)
    attempt = HookAttempt("a", 200, "", later)
    await queue.settle(webhook_id, dead, attempt, well=True, again_at=None, now=later)
    assert (await queue.find(webhook_id, "msg_1")).status == "attempting"
    await queue.settle(webhook_id, living, attempt, well=True, again_at=None, now=later)
    assert (await queue.find(webhook_id, "msg_1")).status == "success"


async def test_what_is_kept_is_bounded(api, receiver):
    """Sent messages make room for new ones; with half of the room waiting, no more is taken from the events."""
    webhook_id, _ = await create(api, receiver)
    small = api.settings.model_copy(update={"webhook_keep": 10})
    queue = WebhookQueue(api.parts.redis, small)
    seen = await queue.look(webhook_id)
    many = [Payload(f"msg_{n:02}", "email.sent", clock.now(), b"{}") for n in range(20)]
    assert await queue.put(webhook_id, many[:12], after=seen.place, until=seen.place, now=clock.now())
    assert not (await queue.look(webhook_id)).has_room
    for claim in await queue.claim(webhook_id, lease_ms=1000, limit=12, now=clock.now()):
        attempt = HookAttempt("a", 200, "", clock.now())
        await queue.settle(webhook_id, claim, attempt, well=True, again_at=None, now=clock.now())
    assert (await queue.look(webhook_id)).has_room
    assert await queue.put(webhook_id, many[12:], after=seen.place, until=seen.place, now=clock.now())
    kept = await queue.page(webhook_id, limit=100)
    assert [message.id for message in kept] == [f"msg_{n:02}" for n in range(19, 9, -1)]


async def test_a_process_of_its_own(api, receiver, tmp_path):
    """`nightmail worker --queue webhooks`, woken by the ticker, ends on SIGTERM."""
    await create(api, receiver)
    variables = {"NIGHTMAIL_REACHABLE_NETWORKS": "127.0.0.0/8", "NIGHTMAIL_POLICY_KEY": _key(api.settings)}
    log = tmp_path / "log"
    with process(TICKER, api.settings, log), process(WEBHOOKS, api.settings, log, **variables) as teller:
        await send(api)
        await until(lambda: "webhook.posted" in log.read_text())
        teller.terminate()
        assert await asyncio.to_thread(teller.wait, 10) == 0, log.read_text()


def _key(settings):
    return settings.policy_key.get_secret_value()


async def test_suppressions_by_the_sdk(api):
    """Add, get, list, remove, and both batches."""
    added = await api.sdk(resend.Suppressions.add, {"email": " Ann@One.Test "})
    assert added["object"] == "suppression"
    assert (await api.sdk(resend.Suppressions.add, {"email": "ann@one.test"}))["id"] == added["id"]
    got = await api.sdk(resend.Suppressions.get, "ANN@one.test")
    assert fields(got) == {
        "object": "suppression", "id": added["id"], "email": "ann@one.test", "origin": "manual", "source_id": None,
    }  # fmt: skip
    batch = await api.sdk(resend.Suppressions.Batch.add, {"emails": ["b@one.test", "c@one.test"]})
    assert len(batch["data"]) == 2
    page = await api.sdk(resend.Suppressions.list, {"limit": 2, "origin": "manual"})
    assert ([each["email"] for each in page["data"]], page["has_more"]) == (["c@one.test", "b@one.test"], True)
    page = await api.sdk(resend.Suppressions.list, {"limit": 2, "after": page["data"][-1]["id"]})
    assert ([each["email"] for each in page["data"]], page["has_more"]) == (["ann@one.test"], False)
    gone = await api.sdk(resend.Suppressions.Batch.remove, {"emails": ["b@one.test", "nobody@one.test"]})
    assert [each["deleted"] for each in gone["data"]] == [True]
    assert (await api.sdk(resend.Suppressions.remove, added["id"]))["deleted"] is True
    with pytest.raises(resend.exceptions.ResendError, match="Suppression not found"):
        await api.sdk(resend.Suppressions.get, "ann@one.test")
    with pytest.raises(resend.exceptions.ResendError, match="Invalid `email` field"):
        await api.sdk(resend.Suppressions.add, {"email": "nobody"})
