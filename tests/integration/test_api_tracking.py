"""Opens and clicks over the real stack: from a domain that wants them to the reader, the events, and who is told."""

import json
import re
from html import unescape

import pytest
import resend
from pydantic import SecretStr

from outbox.content import parts
from outbox.domain_store import DomainStore
from outbox.hits import HITS, MOST
from outbox.journal import Journal
from outbox.sender_domain import Found
from runtime.networks import parse_networks
from runtime.sealing import Seal
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.next_hop import NextHop
from tests.fixtures.receiver import Receiver
from tests.fixtures.valkey import ValkeyServer
from tests.fixtures.waiting import until
from worker.process import delivering
from worker.webhooks import telling

HTML = '<body><p><a href="https://shop.test/?a=1&amp;b=ü">Go</a> <a href="mailto:x@y.test">Write</a></p></body>'
PAIR = {"open_tracking": True, "click_tracking": True}


@pytest.fixture
async def api(settings):
    changed = {"reachable_networks": parse_networks("127.0.0.0/8"), "tracking_host": "in.ours.test"}
    async with running(settings.model_copy(update=changed)) as api:
        yield api


async def domain(api, **chosen):
    """A domain that every process knows."""
    made = await api.sdk(resend.Domains.create, {"name": "acme.test", **chosen})
    await api.parts.policy.refresh()
    return made


async def sent(api, **fields):
    """The id of a mail, and its HTML."""
    email_id = (await api.sdk(resend.Emails.send, MAIL | {"html": HTML} | fields))["id"]
    return email_id, parts((await api.parts.outbox.find(email_id, content=True)).content)


def links(body):
    """Path of the link, path of the image."""
    found = [unescape(url) for url in re.findall(r'(?:href|src)="(https?://[^"]+)"', body.html)]
    return [
        url.partition("/c/")[1] + url.partition("/c/")[2] if "/c/" in url else "/o/" + url.partition("/o/")[2]
        for url in found
    ]


async def events(api, *kinds):
    """The events of these kinds that the queue has."""
    entries = await api.parts.redis.xrange(f"{{{api.settings.queue_prefix}}}:events")
    told = [json.loads(fields[b"e"]) for _, fields in entries]
    return [event for event in told if event["kind"] in kinds]


async def last_event(api, email_id):
    return (await api.client.get(f"/emails/{email_id}")).json()["last_event"]


async def test_from_the_domain_to_the_reader_and_back(api):
    """Switched on, sent, delivered, opened, clicked: last_event, timeline, history and webhook tell it."""
    await domain(api, **PAIR)
    await api.record()
    async with Receiver() as receiver, NextHop() as hop, telling(api.settings):
        wanted = ["email.opened", "email.clicked"]
        await api.sdk(resend.Webhooks.create, {"endpoint": receiver.url("/in"), "events": wanted})
        email_id, body = await sent(api)
        assert "https://shop.test" not in body.html
        assert "https://shop.test/?a=1&b=ü" in body.text
        link, image = links(body)
        placed = api.settings.model_copy(update={"mailbox_smtp_port": hop.port})
        async with delivering(placed, "w", Journal(placed.data_dir / "journal" / "drain-1"), grace=1):
            await until(lambda: _is(api, email_id, "delivered"))

        shown = await api.client.get(image, headers={"User-Agent": "Mail/1"})
        assert (shown.status_code, shown.headers["content-type"], shown.content[:6]) == (200, "image/gif", b"GIF89a")
        await until(lambda: _is(api, email_id, "opened"))
        gone = await api.client.get(link, headers={"User-Agent": "Web/1"})
        assert (gone.status_code, gone.headers["location"]) == (302, "https://shop.test/?a=1&b=%C3%BC")
        assert (gone.headers["cache-control"], gone.headers["referrer-policy"]) == ("no-store", "no-referrer")
        assert "noindex" in gone.headers["x-robots-tag"]
        await until(lambda: _is(api, email_id, "clicked"))
        await until(lambda: len(receiver.requests) == 2)

    told = {body["type"]: body["data"] for body in (json.loads(request.body) for request in receiver.requests)}
    assert told["email.opened"]["to"] == told["email.clicked"]["to"] == ["you@there.test"]
    click = told["email.clicked"]["click"]
    assert click.pop("timestamp").endswith("Z")
    assert click == {"ipAddress": "127.0.0.1", "link": "https://shop.test/?a=1&b=%C3%BC", "userAgent": "Web/1"}
    await api.record()
    await api.forget(email_id)
    answer = (await api.client.get(f"/emails/{email_id}")).json()
    assert answer["last_event"] == "clicked"
    opened, clicked = (e for e in answer["nightmail"]["timeline"] if e["event"] in {"opened", "clicked"})
    assert (opened["user_agent"], clicked["user_agent"]) == ("Mail/1", "Web/1")
    assert clicked["link"] == "https://shop.test/?a=1&b=%C3%BC"
    found = (await api.client.get("/emails", params={"status": "clicked"})).json()["data"]
    assert [email["id"] for email in found] == [email_id]


async def _is(api, email_id, word):
    return await last_event(api, email_id) == word


async def test_off_by_default(api):
    """Mail of a domain that does not ask for it goes as it came; so does mail without HTML."""
    made = await domain(api)
    assert (made["open_tracking"], made["click_tracking"]) == (False, False)
    assert (await sent(api))[1].html == HTML
    assert not api.parts.policy.tracks
    await api.sdk(resend.Domains.update, {"id": made["id"], **PAIR})
    await api.parts.policy.refresh()
    assert api.parts.policy.tracks
    assert (await sent(api, html=None, text="https://shop.test/"))[1].text == "https://shop.test/"
    assert (await sent(api))[1].html != HTML


async def test_strangers_addresses_lead_nowhere(api):
    """Whatever is not signed is a plain 404, and no word of it is in the answer."""
    await domain(api, **PAIR)
    _, body = await sent(api)
    link, image = links(body)
    _, _, email_id, at, signature, packed = link.split("/")
    evil = "aHR0cHM6Ly9ldmlsLnRlc3Qv"
    for path in (
        f"/c/{email_id}/{at}/{signature}/{evil}",
        f"/c/{email_id}/{at}/{signature[:-1]}/{packed}",
        f"/c/{email_id}/{at}/{image.rpartition('/')[2]}/{packed}",
        f"/o/{email_id}/{at}/{signature}",
        f"/o/{email_id}/{at}/%3Cscript%3E",
    ):
        answer = await api.client.get(path, headers={"Authorization": ""})
        assert (answer.status_code, answer.text) == (404, "Not found\n")
        assert answer.headers["content-type"].startswith("text/plain")
    assert await events(api, "opened", "clicked") == []


async def test_heads_and_prefetches_are_answered_and_not_counted(api):
    """Only what looks like a reader counts."""
    await domain(api, **PAIR)
    _, body = await sent(api)
    link, image = links(body)
    for path, status in ((link, 302), (image, 200)):
        assert (await api.client.head(path)).status_code == status
        for said in ({"Sec-Purpose": "prefetch;prerender"}, {"X-Purpose": "preview"}, {"X-Moz": "prefetch"}):
            assert (await api.client.get(path, headers=said)).status_code == status
    assert (await api.client.get(image)).status_code == 200
    await until(lambda: events(api, "opened"))
    assert len(await events(api, "opened", "clicked")) == 1


async def test_one_mail_is_recorded_so_often(api):
    """A link that went public fills neither the queue nor the history."""
    await domain(api, **PAIR)
    _, body = await sent(api)
    link, _ = links(body)
    over = HITS.labels("over")._value.get()
    for _ in range(MOST + 20):
        assert (await api.client.get(link)).status_code == 302
    await until(lambda: HITS.labels("over")._value.get() == over + 20)
    assert len(await events(api, "clicked")) == MOST


async def test_with_every_store_away_links_lead_on(settings, tmp_path):
    """The redirect needs neither database nor queue; the hit is counted as lost."""
    with ValkeyServer(tmp_path / "valkey") as server:
        async with running(settings.model_copy(update={"redis_url": SecretStr(server.url())})) as api:
            await domain(api, **PAIR)
            _, body = await sent(api)
            link, image = links(body)
            await api.client.post("/chaos/database", json={"mode": "down", "for_seconds": 60})
            lost = HITS.labels("lost")._value.get()
            server.stop()
            assert (await api.client.get(link)).headers["location"].startswith("https://shop.test/")
            assert (await api.client.get(image)).status_code == 200
            await until(lambda: HITS.labels("lost")._value.get() == lost + 2)
            server.start()


async def test_a_domains_own_name_is_used_once_it_leads_here(api):
    """The record is shown; before it is seen links lead to the server's own name."""
    made = await domain(api, **PAIR, tracking_subdomain="Links")
    assert made["tracking_subdomain"] == "links"
    (record,) = (r for r in made["records"] if r["record"] == "Tracking")
    assert (record["name"], record["type"], record["value"]) == ("links", "CNAME", "in.ours.test")
    assert f'"{api.url}/c/' in (await sent(api))[1].html
    store = DomainStore(api.store, api.settings, Seal.from_settings(api.settings))
    await store.judge(await store.named("acme.test"), {"CNAME links": Found.YES})
    await api.parts.policy.refresh()
    html = (await sent(api))[1].html
    assert '"https://links.acme.test/c/' in html
    assert '"https://links.acme.test/o/' in html
    await api.client.patch(f"/domains/{made['id']}", json={"tracking_subdomain": ""})
    assert "Tracking" not in {r["record"] for r in (await api.client.get(f"/domains/{made['id']}")).json()["records"]}


async def test_links_that_would_lead_nowhere_are_refused(settings):
    """Where the world cannot find the server, a domain cannot ask for tracking: said at once, with the field."""
    async with running(settings.model_copy(update={"route": "mx"}), public=False) as api:
        for field, value in (("open_tracking", True), ("click_tracking", True), ("tracking_subdomain", "links")):
            answer = await api.client.post("/domains", json={"name": "acme.test", field: value})
            assert answer.status_code == 422
            assert answer.json()["message"].startswith(f"Invalid `{field}` field.")


async def test_several_readers(api):
    """Nobody can tell whose click it is: all recipients are named, and a bounce is not hidden by it."""
    await domain(api, **PAIR)
    async with (
        Receiver() as receiver,
        NextHop({"RCPT": lambda line: "550 5.1.1 unknown" if "gone" in line else "250 ok"}) as hop,
        telling(api.settings),
    ):
        await api.sdk(resend.Webhooks.create, {"endpoint": receiver.url("/in"), "events": ["email.clicked"]})
        email_id, body = await sent(api, to=["ann@one.test", "gone@one.test"])
        placed = api.settings.model_copy(update={"mailbox_smtp_port": hop.port})
        async with delivering(placed, "w", Journal(placed.data_dir / "journal" / "drain-1"), grace=1):
            await until(lambda: _is(api, email_id, "bounced"))
        await api.client.get(links(body)[0])
        await until(lambda: receiver.requests)
    assert json.loads(receiver.requests[0].body)["data"]["to"] == ["ann@one.test", "gone@one.test"]
    assert await last_event(api, email_id) == "bounced"
