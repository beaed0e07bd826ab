"""Searching sent mail and telling what became of it, with the database and without."""

import pytest
import resend

from tests.fixtures import api_stack
from tests.fixtures.api_stack import MAIL, running

api = api_stack.api


async def found(api, **query):
    """The ids that a search gives."""
    answer = await api.client.get("/emails", params=query)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["data"]]


async def test_search(api):
    """Mail is found by what it says, to whom, when and with what end, page by page."""
    tagged = {**MAIL, "tags": [{"name": "kind", "value": "welcome"}], "to": ["a@one.test", "b@two.test"]}
    first = (await api.client.post("/emails", json=tagged)).json()["id"]
    second = (await api.client.post("/emails", json={**MAIL, "subject": "Other words"})).json()["id"]
    await api.client.post(f"/emails/{second}/cancel")
    await api.record()
    assert await found(api, to="b@two.test") == await found(api, domain="two.test") == [first]
    assert await found(api, tag="kind:welcome") == await found(api, tag="kind") == [first]
    assert await found(api, status="canceled") == await found(api, subject="other") == [second]
    assert await found(api, **{"from": "on@acme.test", "since": "2020-01-01"}) == [second, first]
    assert await found(api, until="2020-01-01T00:00:00+02:00") == []
    assert await found(api, **{"from": "on@acme.test", "limit": "1", "after": second}) == [first]
    assert (await api.client.get("/emails?from=on@acme.test&limit=1")).json()["has_more"] is True


@pytest.mark.parametrize(
    "query", ["status=gone", "since=yesterday", "until=", "to=", "subject=%00", f"tag={'x' * 400}", "since=0001-01-01"]
)
async def test_refused_searches(api, query):
    """A parameter that makes no sense is named."""
    answer = await api.client.get(f"/emails?{query}")
    assert (answer.status_code, answer.json()["name"]) == (422, "validation_error")
    assert f"`{query.partition('=')[0]}`" in answer.json()["message"]


async def test_what_became_of_a_message(api):
    """Each recipient with its state, and what happened, under a key that the SDK does not mind."""
    sent = await api.sdk(resend.Emails.send, {**MAIL, "to": ["a@one.test", "b@two.test"]})
    await api.record()
    await api.client.post(f"/emails/{sent['id']}/cancel")
    await api.record()
    ours = (await api.sdk(resend.Emails.get, sent["id"]))["nightmail"]
    assert [(one["address"], one["kind"], one["state"]) for one in ours["recipients"]] == [
        ("a@one.test", "to", "cancelled"),
        ("b@two.test", "to", "cancelled"),
    ]
    assert [one["event"] for one in ours["timeline"]] == ["accepted", "cancelled"]


async def test_without_the_database(api):
    """What the queue knows is told and marked; a search is a 503, never an empty page."""
    sent = (await api.client.post("/emails", json=MAIL)).json()["id"]
    await api.record()
    await api.client.post("/chaos/database", json={"mode": "down", "for_seconds": 60})
    answer = await api.client.get(f"/emails/{sent}")
    assert (answer.status_code, answer.headers["nightmail-history"]) == (200, "unavailable")
    assert answer.json()["nightmail"]["timeline"] is None
    assert answer.json()["nightmail"]["recipients"][0]["state"] == "queued"
    search = await api.client.get("/emails?to=you@there.test")
    assert (search.status_code, search.headers["nightmail-history"]) == (503, "unavailable")
    assert int(search.headers["retry-after"]) >= 1


async def test_without_the_control_api(settings):
    """The send API alone says what the queue knows."""
    async with running(settings, with_control=False) as api:
        sent = (await api.client.post("/emails", json=MAIL)).json()["id"]
        answer = await api.client.get(f"/emails/{sent}")
        assert (answer.status_code, answer.headers["nightmail-history"]) == (200, "unavailable")
        assert answer.json()["nightmail"]["recipients"][0]["address"] == "you@there.test"


@pytest.mark.parametrize(
    "path", ["contacts", "segments", "audiences", "topics", "broadcasts", "automations", "emails/receiving", "inboxes"]
)
async def test_what_is_not_there(api, path):
    """Families of Resend that this server has not are a 404 in JSON."""
    answer = await api.client.get(f"/{path}")
    assert (answer.status_code, answer.json()["name"]) == (404, "not_found")
    assert answer.headers["content-type"].startswith("application/json")
