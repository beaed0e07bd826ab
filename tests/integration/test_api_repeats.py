"""A repeat under an Idempotency-Key has the first answer, also when the mail could not be composed any more."""

import pytest
import resend
from pydantic import SecretStr

from runtime.networks import parse_networks
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.receiver import Receiver, answer
from tests.fixtures.valkey import ValkeyServer

KEY = {"Idempotency-Key": "order/17"}
SEND = {"from": "Shop <shop@acme.test>", "subject": "Thanks", "to": "ann@one.test"}


@pytest.fixture
def reachable(settings):
    return settings.model_copy(update={"reachable_networks": parse_networks("127.0.0.0/8")})


@pytest.fixture
async def api(reachable):
    async with running(reachable) as api:
        yield api


@pytest.fixture
async def mail(api):
    """One of a published template."""
    made = await api.sdk(resend.Templates.create, {"name": "thanks", "html": "<p>Thanks</p>"})
    await api.sdk(resend.Templates.publish, made["id"])
    await api.parts.policy.refresh()
    return SEND | {"template": {"id": made["id"]}}


async def post(api, body, path="/emails", **headers):
    return await api.client.post(path, json=body, headers=KEY | headers)


async def remove_template(api, mail):
    await api.sdk(resend.Templates.remove, mail["template"]["id"])
    await api.parts.policy.refresh()
    assert (await api.client.post("/emails", json=mail)).status_code == 404


async def test_the_template_is_gone(api, mail):
    """The first answer to the first request, a conflict for another, the refusal under another key."""
    first = await post(api, mail)
    batch = await post(api, [mail, mail], "/emails/batch")
    await remove_template(api, mail)
    again = await post(api, dict(reversed(mail.items())))
    assert (again.status_code, again.json()) == (200, first.json())
    assert (await post(api, [mail, mail], "/emails/batch")).json() == batch.json()
    assert (await post(api, mail | {"subject": "Other"})).json()["name"] == "invalid_idempotent_request"
    assert (await post(api, mail, **{"Idempotency-Key": "order/18"})).status_code == 404
    assert len(await api.parts.outbox.newest(limit=10)) == 3


async def test_a_permissive_batch_of_which_nothing_is_left(api, mail):
    """Its messages have the ids that they had."""
    permissive = {"x-batch-validation": "permissive"}
    first = (await post(api, [mail, mail], "/emails/batch", **permissive)).json()
    await remove_template(api, mail)
    again = (await post(api, [mail, mail], "/emails/batch", **permissive)).json()
    assert again == first
    assert len(again["data"]) == 2


async def test_a_permissive_batch_of_which_a_refusal_was_mended(api):
    """Which message has the one id cannot be told any more, so nothing is; in the other mode it is another request."""
    made = await api.sdk(resend.Templates.create, {"name": "thanks", "html": "<p>Thanks</p>"})
    await api.parts.policy.refresh()
    permissive = {"x-batch-validation": "permissive"}
    batch = [SEND | {"template": {"id": made["id"]}}, MAIL]
    first = (await post(api, batch, "/emails/batch", **permissive)).json()
    assert [error["index"] for error in first["errors"]] == [0]
    assert (await post(api, batch, "/emails/batch", **permissive)).json() == first
    await api.sdk(resend.Templates.publish, made["id"])
    await api.parts.policy.refresh()
    for mode in (permissive, {}):
        again = await post(api, batch, "/emails/batch", **mode)
        assert (again.status_code, again.json()["name"]) == (409, "invalid_idempotent_request")
    assert len(await api.parts.outbox.newest(limit=10)) == 1


async def test_the_attachment_is_gone(api):
    """Nothing is fetched for a repeat."""
    async with Receiver(answer(200, b"octets")) as receiver:
        fields = MAIL | {"attachments": [{"path": receiver.url("/a.txt")}]}
        first = await post(api, fields)
        receiver.says = answer(404)
        again = await post(api, fields)
        assert (again.status_code, again.json()) == (200, first.json())
        assert len(receiver.requests) == 1
        assert (await post(api, fields, **{"Idempotency-Key": "order/18"})).status_code == 422


async def test_who_may_not_send_is_told_so(api, mail):
    """A key that has no right to the domain learns nothing of what another sent."""
    await post(api, MAIL)
    token = await api.key(domain="other.test")
    assert (await post(api, MAIL, Authorization=f"Bearer {token}")).status_code == 403


async def test_while_the_queue_is_away(reachable, tmp_path):
    """What this process took meanwhile it recognises; of what was before nobody can say, and nobody waits for it."""
    with ValkeyServer(tmp_path / "valkey") as server:
        ours = reachable.model_copy(update={"redis_url": SecretStr(server.url())})
        async with Receiver(answer(200, b"octets")) as receiver, running(ours) as api:
            fields = MAIL | {"attachments": [{"path": receiver.url("/a.txt")}]}
            assert (await post(api, fields)).status_code == 200
            server.stop()
            other = {"Idempotency-Key": "order/18"}
            meanwhile = await post(api, fields, **other)
            receiver.says = answer(404)
            again = await post(api, fields, **other)
            assert (again.status_code, again.json()) == (200, meanwhile.json())
            assert (await post(api, fields)).status_code == 422


async def test_a_batch_that_is_too_large_together(api, monkeypatch):
    """Each of its emails may be sent, all of them in one request may not: 413, and nothing is taken."""
    monkeypatch.setattr("outbox.accept.MOST_BLOB", 2000)
    answer = await api.client.post("/emails/batch", json=[{**MAIL, "html": "x" * 700}] * 3)
    assert (answer.status_code, answer.json()["name"]) == (413, "validation_error")
    assert (await api.client.get("/emails")).json()["data"] == []
