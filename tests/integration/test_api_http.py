"""What HTTP clients see at the edges: limits, keys, garbage, stores that are away."""

import asyncio
import gc
import subprocess
import sys

import httpx
import orjson
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from outbox.policy import Permission
from outbox.states import State
from runtime.clock import now
from tests.fixtures import api_stack
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.valkey import ValkeyServer

api = api_stack.api
UNKNOWN = "01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae"


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and name; the shape is held here for every error of these tests."""
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    body = answer.json()
    assert set(body) == {"statusCode", "name", "message"}
    assert body["statusCode"] == answer.status_code
    return answer.status_code, body["name"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"to": "\\ud800"}', 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"17", 422),
        (b"{}", 422),
        (b'{"a":' * 900 + b"1" + b"}" * 900, 422),
    ],
)
async def test_garbage_is_refused_politely(api, body, status):
    """Whatever the body holds, the answer is an error in Resend's shape that names the client's fault."""
    assert problem(await api.client.post("/emails", content=body))[0] == status


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused(settings, chunked):
    """Beyond the limit the answer is 413, whether the length was declared or not, and the client can read it."""
    async with running(settings.model_copy(update={"max_message_bytes": 100_000})) as api:
        body = orjson.dumps({**MAIL, "text": "x" * 2_000_000})

        async def pieces():
            for at in range(0, len(body), 50_000):
                yield body[at : at + 50_000]

        answer = await api.client.post("/emails", content=pieces() if chunked else body)
        assert problem(answer) == (413, "validation_error")
        answer = await api.client.post("/emails", json={**MAIL, "text": "x" * 200_000})
        assert problem(answer) == (422, "validation_error")
        assert (await api.client.post("/emails", json={**MAIL, "text": "x" * 50_000})).status_code == 200


async def test_large_messages_are_taken(api):
    """A message of several megabytes takes the way through a thread, and keeps its octets."""
    octets = bytes(range(256)) * 8_000
    files = [{"filename": "a.bin", "content": {"type": "Buffer", "data": list(octets)}}]
    answer = await api.client.post("/emails", json={**MAIL, "attachments": files})
    view = await api.parts.outbox.find(answer.json()["id"], content=True)
    assert view.message.size == len(view.content) > 2_000_000


async def test_keys(settings):
    """Each kind of key may do its part and nothing else."""
    async with running(settings) as api:
        sending = {"Authorization": f"Bearer {await api.key(permission=Permission.SENDING_ACCESS)}"}
        bound = {"Authorization": f"Bearer {await api.key(domain='other.test')}"}
        assert (await api.client.post("/emails", json=MAIL, headers=sending)).status_code == 200
        for path in ("/emails", f"/emails/{UNKNOWN}", "/backlog", "/contacts", "/chaos/database"):
            assert problem(await api.client.get(path, headers=sending)) == (401, "restricted_api_key")
        assert problem(await api.client.post("/emails", json=MAIL, headers=bound)) == (403, "validation_error")
        for missing in ("", "Bearer", "Basic dXNlcjpw"):
            answer = await api.client.get("/emails", headers={"Authorization": missing})
            assert problem(answer) == (401, "missing_api_key")
            assert answer.headers["ratelimit-limit"] == str(settings.rate_limit)


async def test_production_rules(settings):
    """Unverified senders and reserved recipients are refused where the settings say so."""
    strict = {"verified_domains_only": True, "refuse_reserved_recipients": True}
    async with running(settings.model_copy(update=strict)) as api:
        mail = {**MAIL, "to": "you@there.org"}
        answer = await api.client.post("/emails", json=mail)
        assert problem(answer) == (403, "validation_error")
        assert "acme.test domain is not verified" in answer.json()["message"]
        await api.store.set_domain("acme.test", verified=True)
        await api.parts.policy.refresh()
        assert (await api.client.post("/emails", json=mail)).status_code == 200
        answer = await api.client.post("/emails", json={**mail, "cc": "a@example.com"})
        assert problem(answer) == (422, "validation_error")
        assert "Invalid `cc` field. Please use our testing email address" in answer.json()["message"]


async def test_paths_and_methods(api):
    """Unknown paths and methods are JSON errors too, on both apps."""
    assert problem(await api.client.get("/contacts")) == (404, "not_found")
    assert problem(await api.client.post("/segments", json={})) == (404, "not_found")
    assert problem(await api.client.delete("/emails")) == (405, "method_not_allowed")
    assert problem(await api.client.put(f"/emails/{UNKNOWN}")) == (405, "method_not_allowed")
    assert problem(await api.client.get("/emails/17")) == (422, "invalid_parameter")
    assert problem(await api.client.get("/emails", params={"after": UNKNOWN, "before": UNKNOWN})) == (
        422,
        "validation_error",
    )
    for bad in ("0", "101", "x", "-1", "1.5", "9" * 5000, "٣"):
        assert problem(await api.client.get("/emails", params={"limit": bad})) == (422, "validation_error")
    no_mode = await api.client.post("/emails/batch", json=[MAIL], headers={"x-batch-validation": "lax"})
    assert problem(no_mode) == (422, "validation_error")
    assert problem(await api.client.post("/emails/batch", json=[])) == (422, "validation_error")
    assert problem(await api.client.post("/emails/batch", json=[MAIL] * 101)) == (422, "validation_error")


async def test_a_surprise_is_answered_and_told_once(api, monkeypatch, capsys):
    """Nothing that goes wrong within reaches the client, whichever way the request took."""

    def surprise(*_, **__):
        raise RuntimeError("inner words")

    monkeypatch.setattr("api.accepting.decode", surprise)
    monkeypatch.setattr("api.send.backlog", surprise)
    for answer in (await api.client.post("/emails", json=MAIL), await api.client.get("/backlog")):
        assert problem(answer) == (500, "internal_server_error")
        assert "inner" not in answer.text
    assert capsys.readouterr().out.count("request.failed") == 2


async def test_a_client_may_pipeline_and_close(api):
    """Answers come in the order of the requests, each whole, and the connection ends when the client asked for it."""
    body = orjson.dumps(MAIL)
    head = f"POST /emails HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\nContent-Length: {len(body)}\r\n"
    reader, writer = await asyncio.open_connection(*api.url.removeprefix("http://").split(":"))
    writer.write(head.encode() + b"\r\n" + body + head.encode() + b"Connection: close\r\n\r\n" + body)
    first, second = (await reader.read()).split(b"HTTP/1.1 200 OK\r\n")[1:]
    for answer in (first, second):
        head, _, content = answer.lower().partition(b"\r\n\r\n")
        assert b"content-length: %d" % len(content) in head
        assert orjson.loads(content)["id"]
    assert (b"connection: close" in first, b"connection: close" in second) == (False, True)
    writer.close()


async def test_requests_to_send_leave_no_cycles(api):
    """The cycle collector looks seldom, so what a request leaves behind must go by itself."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for body in (MAIL, [MAIL], MAIL):
            await api.client.post("/emails/batch" if isinstance(body, list) else "/emails", json=body)
        gc.collect()
        left = [found for found in gc.garbage if isinstance(found, RequestResponseCycle)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not left


async def test_probes(api):
    """Probes and metrics need no key; the backlog needs one with full access."""
    async with httpx.AsyncClient(base_url=api.url, trust_env=False, verify=False) as nobody:
        assert (await nobody.get("/livez")).json() == {"status": "ok"}
        assert (await nobody.get("/readyz")).status_code == 200
        await api.client.post("/emails", json=MAIL)
        metrics = (await nobody.get("/metrics")).text
        assert "nightmail_backlog_depth 1.0" in metrics
        assert 'nightmail_http_requests_total{method="POST",route="/emails",status="200"}' in metrics
        assert problem(await nobody.get("/backlog")) == (401, "missing_api_key")
    assert (await api.client.get("/backlog")).json()["depth"] == 1


async def test_the_database_is_away(api):
    """Without the database mail is taken and live mail is shown; what only it knows is a 503, never a 404."""
    old = (await api.client.post("/emails", json=MAIL)).json()["id"]
    await api.record()
    await api.forget(old)
    assert (await api.client.get(f"/emails/{old}")).json()["html"] == "<p>Hi</p>"
    switched = await api.client.post("/chaos/database", json={"mode": "down", "for_seconds": 60})
    assert switched.json()["mode"] == (await api.client.get("/chaos/database")).json()["mode"] == "down"
    live = (await api.client.post("/emails", json=MAIL)).json()["id"]
    assert (await api.client.get(f"/emails/{live}")).json()["last_event"] == "queued"

    page = await api.client.get("/emails")
    assert page.headers["nightmail-history"] == "unavailable"
    assert [one["id"] for one in page.json()["data"]] == [live]
    answer = await api.client.get(f"/emails/{old}")
    assert problem(answer) == (503, "service_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["nightmail-history"] == "unavailable"

    await api.client.post("/chaos/database", json={"mode": "up"})
    async with asyncio.timeout(5):
        while (await api.client.get(f"/emails/{old}")).status_code != 200:
            pass
    page = await api.client.get("/emails")
    assert "nightmail-history" not in page.headers
    assert [one["id"] for one in page.json()["data"]] == [live, old]


async def test_not_found_needs_a_complete_history(api):
    """While the recorder is behind, a message may be in neither store, so an unknown id is a 503."""
    await api.record()
    sent = (await api.client.post("/emails", json=MAIL)).json()["id"]
    await api.forget(sent)
    api.recorder_says("waiting")
    assert problem(await api.client.get(f"/emails/{sent}")) == (503, "service_unavailable")
    await api.record()
    assert (await api.client.get(f"/emails/{sent}")).status_code == 200
    assert problem(await api.client.get(f"/emails/{UNKNOWN}")) == (404, "not_found")
    assert problem(await api.client.post(f"/emails/{UNKNOWN}/cancel")) == (404, "not_found")
    assert problem(await api.client.post(f"/emails/{sent}/cancel")) == (409, "validation_error")


async def test_the_control_api_is_away(settings):
    """Alone, the send API still takes, shows, cancels and counts mail; the rest is a 503."""
    async with running(settings, with_control=False) as api:
        sent = (await api.client.post("/emails", json=MAIL)).json()["id"]
        assert (await api.client.get(f"/emails/{sent}")).status_code == 200
        assert (await api.client.get("/backlog")).status_code == 200
        for path in ("/emails", f"/emails/{UNKNOWN}", "/contacts"):
            answer = await api.client.get(path)
            assert problem(answer) == (503, "service_unavailable")
            assert "retry-after" in answer.headers
        assert (await api.client.post(f"/emails/{sent}/cancel")).status_code == 200


async def test_the_queue_is_away(settings, tmp_path):
    """Without the queue sends are still taken; what needs it is a 503, and in time an unknown key is too, no 401."""
    with ValkeyServer(tmp_path / "valkey") as server:
        own = settings.model_copy(update={"redis_url": type(settings.redis_url)(server.url())})
        async with running(own) as api:
            sent = (await api.client.post("/emails", json=MAIL)).json()["id"]
            server.kill()
            answers = [await api.client.post("/emails", json=MAIL) for _ in range(5)]
            assert {answer.status_code for answer in answers} == {200}
            assert (await api.client.get("/readyz")).status_code == 200
            assert problem(await api.client.get(f"/emails/{sent}")) == (503, "service_unavailable")
            assert problem(await api.client.post(f"/emails/{sent}/cancel")) == (503, "service_unavailable")
            assert problem(await api.client.get("/backlog")) == (503, "service_unavailable")
            assert "nightmail_queue_up 0.0" in (await api.client.get("/metrics")).text
            unknown = {"Authorization": f"Bearer re_{'x' * 8}_{'y' * 24}"}
            async with asyncio.timeout(10):
                while problem(await api.client.post("/emails", json=MAIL, headers=unknown))[0] == 401:
                    await asyncio.sleep(0.05)
            assert problem(await api.client.post("/emails", json=MAIL, headers=unknown)) == (503, "service_unavailable")
            server.start()


async def test_chaos_is_not_there_unless_enabled(settings):
    """Without the setting the switch is a 404."""
    async with running(settings.model_copy(update={"chaos": False})) as api:
        assert problem(await api.client.get("/chaos/database")) == (404, "not_found")
        assert problem(await api.client.post("/chaos/database", json={"mode": "down"})) == (404, "not_found")


async def test_chaos_is_checked(api):
    """Modes and times that make no sense are refused."""
    for wrong in ({}, {"mode": "sideways"}, {"mode": "down", "for_seconds": 0}, {"mode": "down", "for_seconds": "x"}):
        assert problem(await api.client.post("/chaos/database", json=wrong))[0] == 422


async def test_paging_through_both_sources(api):
    """Walking the list page by page meets every message once, whether the outbox, the history or both know it."""
    batch = [{**MAIL, "subject": str(n)} for n in range(40)]  # they share their millisecond, or nearly
    sent = [one["id"] for one in (await api.client.post("/emails/batch", json=batch)).json()["data"]]
    await api.record()
    for email_id in sent[::3]:
        await api.forget(email_id)
    sent += [one["id"] for one in (await api.client.post("/emails/batch", json=batch[:5])).json()["data"]]

    async def walk(way: str, cursor: str | None) -> list[str]:
        met: list[str] = []
        while True:
            query = {"limit": 7} | ({way: cursor} if cursor else {})
            page = (await api.client.get("/emails", params=query)).json()
            ids = [one["id"] for one in page["data"]]
            met += ids if way == "after" else ids[::-1]
            if not page["has_more"]:
                return met
            cursor = met[-1]

    older = await walk("after", None)
    assert sorted(older) == sorted(sent)
    assert [older[-1], *await walk("before", older[-1])] == older[::-1]


async def test_cancel_loses_against_a_worker(api):
    """A message under way is a 409, and is then sent."""
    sent = (await api.client.post("/emails", json=MAIL)).json()["id"]
    outbox = api.parts.outbox
    claims = await outbox.claim("there.test", channel="c", limit=1, now=now())
    assert len(claims) == 1
    assert problem(await api.client.post(f"/emails/{sent}/cancel")) == (409, "resource_locked")
    assert (await outbox.find(sent)).states == (State.SENDING,)


async def test_the_openapi_documents(api):
    """Both apps describe their routes, and every reference resolves."""
    for url, paths in ((api.url, {"/emails", "/emails/batch", "/emails/{email_id}"}), (api.control_url, {"/emails"})):
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as nobody:
            text = (await nobody.get("/openapi.json")).text
        document = orjson.loads(text)
        assert paths <= set(document["paths"])
        for reference in set(text.split('"$ref":"#/components/schemas/')[1:]):
            assert reference.partition('"')[0] in document["components"]["schemas"]


def test_the_send_api_knows_no_database():
    """Importing the send API loads neither SQLAlchemy nor our history."""
    code = "import sys, api.send; print([m for m in sys.modules if m.split('.')[0] in ('sqlalchemy', 'history')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
