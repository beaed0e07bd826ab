"""What arrives at the next hop is signed for the domain of its From, and verifies there."""

import asyncio
import base64
import smtplib
import ssl
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from pydantic import SecretStr

from outbox.domain_store import DomainStore
from outbox.journal import Journal
from outbox.sender_domain import Found
from outbox.states import State
from runtime.sealing import Seal
from smtp.server import SubmissionServer
from tests.fixtures import api_stack
from tests.fixtures.next_hop import NextHop
from tests.fixtures.verifier import verdicts
from tests.fixtures.waiting import until
from worker.process import delivering

api = api_stack.api
BLOB = base64.b64encode(bytes(70_000)).decode()
FEATURES = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 50000000")


@pytest.fixture
async def hop():
    async with NextHop(features=FEATURES) as hop:
        yield hop


@pytest.fixture
def domains(api):
    return DomainStore(api.store, api.settings, Seal.from_settings(api.settings))


@asynccontextmanager
async def worker(api, hop, **settings):
    changed = api.settings.model_copy(update={"mailbox_smtp_port": hop.port, **settings})
    async with delivering(changed, "test:drain:1", Journal(changed.data_dir / "journal" / "drain-1"), grace=5):
        yield


async def send(api, **fields):
    mail = {"from": "Acme <on@acme.test>", "to": "you@there.test", "subject": "Hello", "text": "Hi", **fields}
    answer = await api.client.post("/emails", json=mail)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def test_every_form_of_mail_verifies(api, hop, domains):
    """Text, HTML, files, UTF-8 everywhere, long lines and dots: both signatures hold, and Bcc is nowhere."""
    domain = await domains.create("acme.test")
    forms = [
        {"text": "Hi"},
        {"html": "<p>Grüße  \t </p>\n\n\n"},
        {"text": "x" * 5000 + "\n.\n..\n \n"},
        {
            "html": "<b>Hi</b>",
            "attachments": [{"filename": "ä.bin", "content": base64.b64encode(bytes(70_000)).decode()}],
        },
        {"subject": "Größe " * 40, "from": '"Müller, Änne" <on@acme.test>', "reply_to": ["a@b.test", "c@d.test"]},
        {"to": "jürgen@there.org", "text": "SMTPUTF8"},
        {"bcc": "hidden@there.test", "headers": {"List-Unsubscribe": "<https://acme.test/u>", "X-Own": "1"}},
    ]
    for form in forms:
        await send(api, **form)
    async with worker(api, hop):
        await until(lambda: len(hop.received) == len(forms))
    for mail in hop.received:
        assert verdicts(mail.content, domain) == {key.selector: True for key in domain.keys}
        assert b"hidden" not in mail.content


async def test_other_senders_and_bounces_keep_their_way(api, hop, domains):
    """Mail of a domain without keys goes out as it was accepted, octet for octet, from its own reverse-path."""
    await domains.create("acme.test")
    message_id = await send(api, **{"from": "x@other.test"})
    content = (await api.parts.outbox.find(message_id, content=True)).content
    async with worker(api, hop):
        await until(lambda: len(hop.received) == 1)
    assert hop.received[0].content == content + b"\r\n"  # of the final dot
    assert hop.received[0].reverse_path == "x@other.test"


async def test_keys_that_cannot_be_read_defer(api, hop, domains):
    """With the wrong key of the seal nothing is sent unsigned and nothing fails; with the right one it goes out."""
    await domains.create("acme.test")
    message_id = await send(api)
    quick = {"retry_first": timedelta(milliseconds=50), "retry_max": timedelta(milliseconds=50)}

    async with worker(api, hop, policy_key=SecretStr("w" * 32), **quick):
        await until(lambda: _is(api, message_id, State.DEFERRED))
    (outcome,) = (await api.parts.outbox.find(message_id)).outcomes
    assert outcome.status == "4.7.5"
    assert hop.received == []
    async with worker(api, hop, **quick):
        await until(lambda: _is(api, message_id, State.DELIVERED))


async def _is(api, message_id, state):
    return (await api.parts.outbox.find(message_id)).states == (state,)


async def test_rotated_keys_take_over_when_they_are_seen(api, hop, domains):
    """After a rotation the old keys sign until the new ones are in the DNS, and mail signed before still verifies."""
    old = await domains.create("acme.test")
    both = {f"TXT {key.selector}._domainkey": Found.YES for key in old.keys}
    await domains.judge(old, both)
    rotated = await domains.rotate(old)
    await send(api)
    async with worker(api, hop):
        await until(lambda: len(hop.received) == 1)
        fresh = [key for key in rotated.keys if not key.seen_at]
        current = await domains.judge(rotated, {f"TXT {key.selector}._domainkey": Found.YES for key in fresh})
        await until(lambda: _signs_with(api, hop, fresh[0].selector))
    assert verdicts(hop.received[0].content, current) == {key.selector: True for key in old.keys}
    assert verdicts(hop.received[-1].content, current) == {key.selector: True for key in fresh}
    assert [bool(key.sealed) for key in current.keys] == [False, False, True, True]


async def _signs_with(api, hop, selector):
    before = len(hop.received)
    await send(api)
    await until(lambda: len(hop.received) > before)
    return f"s={selector};".encode() in hop.received[-1].content


async def test_bounces_go_to_the_return_path(api, hop, domains):
    """With a bounce host and its records seen, the reverse-path names the message at the domain's return path."""
    with_host = api.settings.model_copy(update={"bounce_host": "mx.acme.test"})
    domain = await DomainStore(api.store, with_host, Seal.from_settings(with_host)).create("acme.test")
    message_id = await send(api)
    seen = {"MX send": Found.YES, "TXT send": Found.YES}
    await DomainStore(api.store, with_host, Seal(None)).judge(domain, seen)
    async with worker(api, hop, bounce_host="mx.acme.test"):
        await until(lambda: len(hop.received) == 1)
    assert hop.received[0].reverse_path == f"{message_id}@send.acme.test"


async def test_enforced_tls_waits_for_it(api, hop, domains):
    """A domain that asks for TLS is not sent in the clear; it waits for a next hop that offers it."""
    domain = await domains.create("acme.test", tls="enforced")
    message_id = await send(api)
    route = {"route": "smarthost", "smarthost_host": "127.0.0.1", "smarthost_port": hop.port, "smarthost_tls": "none"}
    async with worker(api, hop, **route):
        await until(lambda: _is(api, message_id, State.DEFERRED))
    assert hop.received == []
    assert domain.tls == "enforced"


async def test_mail_by_smtp_verifies(api, hop, domains):
    """Content submitted by SMTP goes out as it came, under the signatures of its From, not of its MAIL."""
    domain = await domains.create("acme.test")
    content = (
        "From: Änne <on@acme.test>\r\nTo: you@there.test\r\nSubject:  Über \r\n\tzwei Zeilen\r\n"
        "Bcc: hidden@there.test\r\n\r\n.\r\n..\r\n" + "ä" * 400 + "  \t\r\n\r\n\r\n"
    ).encode()
    settings = api.settings.model_copy(update={"smtp_port": 0, "smtps_port": 0})
    parts = api.parts
    server = SubmissionServer(settings, acceptor=parts.acceptor, policy=parts.policy, ratelimiter=parts.ratelimiter)
    await server.start()
    await asyncio.to_thread(_submit, server.smtps_port, settings, api.token, content)
    await server.stop()
    async with worker(api, hop):
        await until(lambda: len(hop.received) == 1)
    (mail,) = hop.received
    assert verdicts(mail.content, domain) == {key.selector: True for key in domain.keys}
    assert mail.reverse_path == "bounce@elsewhere.test"
    assert b"hidden" not in mail.content


def _submit(port, settings, token, content):
    trust = ssl.create_default_context(cafile=str(settings.data_dir / "tls" / "smtp.crt"))
    with smtplib.SMTP_SSL("localhost", port, context=trust, timeout=20) as client:
        client.login("resend", token)
        client.sendmail("bounce@elsewhere.test", ["you@there.test"], content, ["SMTPUTF8", "BODY=8BITMIME"])
