"""The unmodified official SDK for Python, every family, with no database anywhere: also what then is missing."""

import contextlib

import httpx
import pytest
import resend
from resend.exceptions import ResendError

from tests.fixtures.waiting import until_sync

DATABASE = "stopped"
MAIL = {"from": "Acme <on@acme.test>", "to": ["ann@one.test"], "subject": "Hello", "html": "<p>Hi</p>"}
UNKNOWN = "01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae"


@pytest.fixture(autouse=True)
def pointed(stack, monkeypatch):
    monkeypatch.setattr(resend, "api_url", stack.details.url)
    monkeypatch.setattr(resend, "api_key", stack.details.api_key)


def test_send_get_list(stack):
    """Mail arrives and its state is known; what the answers leave out is marked."""
    mail, once = {**MAIL, "subject": "Without a database"}, {"idempotency_key": "once"}
    sent = resend.Emails.send(mail, once)
    assert resend.Emails.send(mail, once)["id"] == sent["id"]
    assert sent["id"] in stack.await_mail("Without a database")["message_id"]
    until_sync(lambda: resend.Emails.get(sent["id"])["last_event"] == "delivered")
    for answer in (resend.Emails.get(sent["id"]), resend.Emails.list({"limit": 100})):
        assert answer["http_headers"]["nightmail-history"] == "unavailable"
    assert sent["id"] in [one["id"] for one in resend.Emails.list({"limit": 100})["data"]]


def test_batches(stack):
    """Both modes of a batch."""
    sent = resend.Batch.send([{**MAIL, "subject": f"Batch {n}"} for n in range(3)])["data"]
    for n, one in enumerate(sent):
        assert one["id"] in stack.await_mail(f"Batch {n}")["message_id"]
    wrong = [MAIL, {**MAIL, "to": ["nobody"]}]
    permissive = resend.Batch.send(wrong, {"batch_validation": "permissive"})
    assert (len(permissive["data"]), [error["index"] for error in permissive["errors"]]) == (1, [1])


def test_schedule_move_cancel():
    """Scheduled mail is moved and cancelled."""
    sent = resend.Emails.send({**MAIL, "scheduled_at": "in 1 hour"})
    before = resend.Emails.get(sent["id"])
    assert resend.Emails.update({"id": sent["id"], "scheduled_at": "in 2 hours"})["id"] == sent["id"]
    after = resend.Emails.get(sent["id"])
    assert (before["last_event"], after["last_event"]) == ("scheduled", "scheduled")
    assert after["scheduled_at"] > before["scheduled_at"]
    assert resend.Emails.cancel(sent["id"])["id"] == sent["id"]
    assert resend.Emails.get(sent["id"])["last_event"] == "canceled"


def test_domains_and_keys():
    """A domain is made, read, changed, verified and removed; a key of it sends, and then no more."""
    domain = resend.Domains.create({"name": "python.test"})
    assert {record["record"] for record in domain["records"]} >= {"DKIM", "SPF"}
    assert resend.Domains.update({"id": domain["id"], "tls": "enforced"})["id"] == domain["id"]
    assert resend.Domains.verify(domain["id"])["id"] == domain["id"]
    assert resend.Domains.get(domain["id"])["name"] == "python.test"
    assert domain["id"] in [one["id"] for one in resend.Domains.list()["data"]]
    key = resend.ApiKeys.create({"name": "of Python", "permission": "sending_access", "domain_id": domain["id"]})
    assert key["id"] in [one["id"] for one in resend.ApiKeys.list()["data"]]
    until_sync(lambda: status_of_send(key["token"], "on@python.test") == 200)
    assert status_of_send(key["token"], "on@acme.test") == 403
    resend.ApiKeys.remove(key["id"])
    until_sync(lambda: status_of_send(key["token"], "on@python.test") == 401)
    assert resend.Domains.remove(domain["id"])["deleted"] is True


def status_of_send(token, sender):
    headers = {"Authorization": f"Bearer {token}"}
    body = {**MAIL, "from": sender}
    return httpx.post(f"{resend.api_url}/emails", json=body, headers=headers, trust_env=False).status_code


def test_templates(stack):
    """A template is drafted, changed, published, sent, duplicated, listed and removed."""
    variables = [{"key": "NAME", "type": "string", "fallback_value": "you"}]
    made = resend.Templates.create({"name": "greeting", "html": "<p>Hi {{{NAME}}}</p>", "variables": variables})
    resend.Templates.update({"id": made["id"], "html": "<p>Hello {{{NAME}}}</p>"})
    assert resend.Templates.publish(made["id"])["id"] == made["id"]
    mail = {name: value for name, value in MAIL.items() if name != "html"} | {"subject": "By template"}
    sent = until_known(mail | {"template": {"id": made["id"], "variables": {"NAME": "Ann"}}})
    stack.await_mail("By template")
    assert resend.Emails.get(sent["id"])["html"] == "<p>Hello Ann</p>"
    copy = resend.Templates.duplicate(made["id"])
    assert {made["id"], copy["id"]} <= {one["id"] for one in resend.Templates.list()["data"]}
    for template in (made, copy):
        assert resend.Templates.remove(template["id"])["deleted"] is True


def until_known(mail):
    """Send it once the send API has heard of what it needs, which takes as long as a look at the policy."""
    sent = []

    def known():
        with contextlib.suppress(ResendError):
            sent.append(resend.Emails.send(mail))
        return bool(sent)

    until_sync(known)
    return sent[0]


def test_suppressions():
    """An address on the list gets no mail until it is taken off."""
    added = resend.Suppressions.add({"email": "never@one.test"})
    assert resend.Suppressions.get("never@one.test")["id"] == added["id"]
    assert added["id"] in [one["id"] for one in resend.Suppressions.list()["data"]]
    sent = resend.Emails.send({**MAIL, "to": "never@one.test"})
    until_sync(lambda: resend.Emails.get(sent["id"])["last_event"] == "suppressed")
    assert resend.Suppressions.remove(added["id"])["deleted"] is True


def test_attachments():
    """Files of live mail are listed, and fetched from their signed addresses."""
    sent = resend.Emails.send({**MAIL, "attachments": [{"filename": "a.txt", "content": list(b"octets")}]})
    (file,) = resend.EmailAttachments.list(sent["id"])["data"]
    got = resend.EmailAttachments.get(sent["id"], file["id"])
    assert (got["filename"], got["size"]) == ("a.txt", 6)
    assert httpx.get(got["download_url"], trust_env=False).content == b"octets"


def test_webhooks(receiver):
    """An endpoint hears of a delivery, and the SDK accepts the signature; it is changed, replayed and removed."""
    url, requests = receiver
    made = resend.Webhooks.create({"endpoint": url, "events": ["email.delivered"]})
    sent = resend.Emails.send(MAIL)
    until_sync(lambda: bool(requests), seconds=30)
    headers, body = requests[0]
    signed = {name: headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")}
    options = {"payload": body.decode(), "headers": signed, "webhook_secret": made["signing_secret"]}
    event = resend.Webhooks.verify(options)
    assert (event["type"], event["data"]["email_id"]) == ("email.delivered", sent["id"])
    assert [one["id"] for one in resend.Webhooks.list_events(made["id"])["data"]] == [signed["id"]]
    resend.Webhooks.replay_event(made["id"], signed["id"])
    until_sync(lambda: len(requests) == 2)
    assert resend.Webhooks.update({"webhook_id": made["id"], "status": "disabled"})["id"] == made["id"]
    assert resend.Webhooks.get(made["id"])["status"] == "disabled"
    assert resend.Webhooks.remove(made["id"])["deleted"] is True


@pytest.mark.parametrize("path", [f"/emails/{UNKNOWN}", "/emails?to=ann@one.test", f"/emails/{UNKNOWN}/attachments"])
def test_what_only_the_history_knows_is_put_off(stack, path):
    """Never "not found": 503 with Retry-After, and no sign of why."""
    answer = stack.api("GET", path)
    assert (answer.status_code, answer.json()["name"]) == (503, "service_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["nightmail-history"] == "unavailable"
    assert "postgres" not in answer.text.lower()


def test_what_the_history_must_decide_is_put_off():
    """The SDK's own error, with the time to come back."""
    for call in (resend.Emails.get, resend.Emails.cancel, resend.EmailAttachments.list):
        with pytest.raises(ResendError) as error:
            call(UNKNOWN)
        assert (error.value.code, error.value.error_type) == (503, "service_unavailable")
        assert int(error.value.headers["retry-after"]) >= 1
