"""What API keys asked for can be looked at, database or not, and tells nothing that it should not."""

import resend

from outbox.request_log import LoggedRequest, RequestLog
from runtime import clock
from tests.fixtures import api_stack
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.waiting import until

api = api_stack.api
SECRET = "whisper-17"


async def logged(api, count):
    """The log, once it has so many requests."""

    async def is_there() -> bool:
        return len((await api.sdk(resend.Logs.list))["data"]) >= count

    await until(is_there)
    return (await api.sdk(resend.Logs.list))["data"]


async def test_requests_are_kept_without_their_contents(api):
    """Refusals with their answer, changes and lookups without; no mail that was taken, no stranger, no query."""
    await api.record()
    await api.sdk(resend.Emails.send, MAIL | {"subject": SECRET})
    refused = {**MAIL, "from": "Acme", "html": SECRET}
    assert (await api.client.post("/emails", json=refused)).status_code == 422
    assert (await api.client.post("/emails", json=MAIL, headers={"Authorization": "Bearer re_no"})).status_code == 401
    assert (await api.client.get(f"/emails?subject={SECRET}")).status_code == 200
    assert (await api.client.delete("/webhooks/not-an-id", headers={"User-Agent": "a" * 1000})).status_code == 422
    listed = await logged(api, 3)
    shown = [tuple(one[name] for name in ("method", "endpoint", "response_status")) for one in listed]
    assert shown == [("DELETE", "/webhooks/not-an-id", 422), ("GET", "/emails", 200), ("POST", "/emails", 422)]
    assert (len(listed[0]["user_agent"]), listed[2]["user_agent"][:6]) == (256, "python")

    deleted = await api.sdk(resend.Logs.get, listed[0]["id"])
    assert (deleted["object"], deleted["response_body"]["message"]) == ("log", "The `id` must be a valid UUID.")
    got = await api.sdk(resend.Logs.get, listed[2]["id"])
    assert (got["request_body"], got["response_body"]["name"]) == (None, "validation_error")
    ring = await api.parts.redis.xrange(f"{{{api.settings.queue_prefix}}}:requests")
    assert SECRET not in str(ring)
    assert api.token not in str(ring)
    unknown = await api.client.get("/logs/01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae")
    assert (unknown.status_code, unknown.json()["message"]) == (404, "Log not found")


async def test_the_log_has_pages_and_an_end(settings):
    """Its cursors lead through all of it, and old requests make room for new ones."""
    settings = settings.model_copy(update={"request_log_keep": 1})
    async with running(settings, with_control=False) as api:
        ring = RequestLog(api.parts.redis, settings.model_copy(update={"request_log_keep": 1000}))
        await ring.append([LoggedRequest(clock.now(), "GET", f"/{n}", 200, None, None) for n in range(5)])
        first = await api.sdk(resend.Logs.list, {"limit": 2})
        assert ([one["endpoint"] for one in first["data"]], first["has_more"]) == (["/4", "/3"], True)
        rest = await api.sdk(resend.Logs.list, {"limit": 3, "after": first["data"][-1]["id"]})
        assert ([one["endpoint"] for one in rest["data"]], rest["has_more"]) == (["/2", "/1", "/0"], False)
        newer = await api.sdk(resend.Logs.list, {"limit": 1, "before": rest["data"][0]["id"]})
        assert ([one["endpoint"] for one in newer["data"]], newer["has_more"]) == (["/3"], True)
        small = RequestLog(api.parts.redis, settings)
        await small.append([LoggedRequest(clock.now(), "GET", f"/{n}", 200, None, None) for n in range(500)])
        # It is cut by whole nodes of the stream, of a hundred entries.
        assert await api.parts.redis.xlen(f"{{{settings.queue_prefix}}}:requests") <= 200
