"""The unmodified official SDK for Node on what stands around sending, with no database anywhere."""

import httpx
import pytest

from tests.fixtures.waiting import until_sync

DATABASE = "hangs"
MAIL = {"from": "Acme <on@acme.test>", "to": ["ann@one.test"], "subject": "Hello", "html": "<p>Hi</p>"}


def names(listed):
    return [one["name"] for one in listed["data"]]


def test_keys(sdk):
    """A key is made, listed, used, renamed and removed; then it opens nothing."""
    made = sdk("apiKeys.create", {"name": "of Node", "permission": "sending_access"})
    assert sdk("emails.send", MAIL, key=made["token"])["id"]
    assert sdk.answer("emails.list", key=made["token"])["error"]["name"] == "restricted_api_key"
    sdk("apiKeys.update", made["id"], {"name": "renamed"})
    assert "renamed" in names(sdk("apiKeys.list"))
    sdk("apiKeys.remove", made["id"])
    until_sync(lambda: sdk.answer("emails.send", MAIL, key=made["token"])["error"] is not None)
    assert "renamed" not in names(sdk("apiKeys.list"))


def test_domains(sdk):
    """A domain shows the records to publish, can be changed, verified and removed."""
    made = sdk("domains.create", {"name": "node.test"})
    assert {record["record"] for record in made["records"]} >= {"DKIM", "SPF"}
    assert sdk("domains.update", {"id": made["id"], "tls": "enforced"})["id"] == made["id"]
    assert sdk("domains.verify", made["id"])["id"] == made["id"]
    got = sdk("domains.get", made["id"])
    assert (got["name"], got["status"] in {"not_started", "pending", "failed", "temporary_failure"}) == (
        "node.test",
        True,
    )
    assert "node.test" in names(sdk("domains.list"))
    assert sdk("domains.remove", made["id"])["deleted"] is True
    assert sdk.answer("domains.get", made["id"])["error"]["name"] == "not_found"


def test_claims(sdk):
    """There is nobody to claim a domain from, and the SDK hears it as an error that it knows."""
    assert sdk.answer("domains.claims.create", {"name": "claimed.test"})["error"]["name"] == "not_found"


def test_numbers_need_the_database(sdk):
    """What cannot be counted now is not 0: the SDK hears that it is to come again."""
    for method in ("emails.metrics", "usage.get"):
        assert sdk.answer(method)["error"]["name"] == "service_unavailable"


def test_requests(sdk):
    """A request that was refused can be looked at."""
    assert sdk.answer("emails.send", MAIL | {"from": "Acme"})["error"]["name"] == "validation_error"
    until_sync(lambda: ("/emails", 422) in [_request(one) for one in sdk("logs.list")["data"]])
    refused = next(one for one in sdk("logs.list")["data"] if _request(one) == ("/emails", 422))
    assert sdk("logs.get", refused["id"])["response_body"]["name"] == "validation_error"


def _request(logged):
    return logged["endpoint"], logged["response_status"]


def test_sharing(sdk):
    """A message is shown under the address that is given for it."""
    sent = sdk("emails.send", MAIL | {"subject": "For all to see"})
    shared = sdk("emails.share", sent["id"], {"expiresIn": "2 hours"})
    assert "For all to see" in httpx.get(shared["url"], trust_env=False).text


def test_templates(sdk, stack):
    """A template is drafted, published, sent, duplicated and removed."""
    variables = [{"key": "NAME", "type": "string", "fallbackValue": "you"}]
    made = sdk("templates.create", {"name": "greeting", "html": "<p>Hi {{{NAME}}}</p>", "variables": variables})
    sdk("templates.publish", made["id"])
    mail = MAIL | {"subject": "By template", "template": {"id": made["id"], "variables": {"NAME": "Ann"}}}
    del mail["html"]
    sent = sdk("emails.send", mail)
    stack.await_mail("By template")
    assert sdk("emails.get", sent["id"])["html"] == "<p>Hi Ann</p>"
    copy = sdk("templates.duplicate", made["id"])
    assert {made["id"], copy["id"]} <= {one["id"] for one in sdk("templates.list")["data"]}
    for template in (made, copy):
        assert sdk("templates.remove", template["id"])["deleted"] is True


def test_suppressions(sdk):
    """What is on the list gets no mail; taken off, it does."""
    added = sdk("suppressions.add", {"email": "never@one.test"})
    assert sdk("suppressions.get", "never@one.test")["id"] == added["id"]
    sent = sdk("emails.send", MAIL | {"to": "never@one.test"})
    until_sync(lambda: sdk("emails.get", sent["id"])["last_event"] == "suppressed")
    assert "never@one.test" in [one["email"] for one in sdk("suppressions.list")["data"]]
    sdk("suppressions.remove", added["id"])
    sent = sdk("emails.send", MAIL | {"to": "never@one.test"})
    until_sync(lambda: sdk("emails.get", sent["id"])["last_event"] == "delivered")


def test_attachments(sdk):
    """What was attached is listed, and fetched from the address that is given for it."""
    file = {"filename": "a.txt", "content": "b2N0ZXRz"}
    sent = sdk("emails.send", MAIL | {"attachments": [file]})
    (listed,) = sdk("emails.attachments.list", {"emailId": sent["id"]})["data"]
    got = sdk("emails.attachments.get", {"emailId": sent["id"], "id": listed["id"]})
    assert got["filename"] == "a.txt"
    assert httpx.get(got["download_url"], trust_env=False).content == b"octets"


def test_webhooks(sdk, receiver):
    """An endpoint is told of a delivery, and the SDK accepts the signature; it is changed, rotated and removed."""
    url, requests = receiver
    made = sdk("webhooks.create", {"endpoint": url, "events": ["email.delivered"]})
    sent = sdk("emails.send", MAIL)
    until_sync(lambda: bool(requests), seconds=30)
    headers, body = requests[0]
    signed = {name: headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")}
    told = {"payload": body.decode(), "headers": signed, "webhookSecret": made["signing_secret"]}
    event = sdk.answer("webhooks.verify", told)
    assert (event["type"], event["data"]["email_id"]) == ("email.delivered", sent["id"])
    assert "thrown" in sdk.answer("webhooks.verify", told | {"payload": body.decode() + " "})
    assert sdk("webhooks.rotateSigningSecret", made["id"])["signing_secret"] != made["signing_secret"]
    assert sdk("webhooks.update", made["id"], {"status": "disabled"})["id"] == made["id"]
    assert sdk("webhooks.get", made["id"])["status"] == "disabled"
    assert made["id"] in [one["id"] for one in sdk("webhooks.list")["data"]]
    assert sdk("webhooks.remove", made["id"])["deleted"] is True


@pytest.mark.parametrize("method", ["contacts.list", "broadcasts.list", "segments.list", "topics.list"])
def test_what_we_have_not_is_an_error_that_the_sdk_knows(sdk, method):
    """Families that are not here end as `not_found`, in JSON."""
    assert sdk.answer(method)["error"]["name"] == "not_found"
