"""The unmodified official SDK for Python works against this server as against its own."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import resend
from resend.exceptions import MissingRequiredFieldsError, RateLimitError, ResendError, ValidationError

from outbox.content import parts
from outbox.states import LastEvent
from tests.fixtures import api_stack
from tests.fixtures.api_stack import MAIL, running

api = api_stack.api
UNKNOWN = "01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae"


async def test_send_and_get(api):
    """A message that was sent can be fetched, with all that was said about it."""
    fields = {
        **MAIL,
        "to": ["Ann <ann@one.test>", "bob@two.test"],
        "cc": "carl@three.test",
        "bcc": ["dora@four.test"],
        "reply_to": "reply@acme.test",
        "headers": {"X-Entity-Ref-ID": "17"},
        "tags": [{"name": "kind", "value": "welcome"}],
        "attachments": [{"filename": "a.txt", "content": list(b"octets")}],
    }
    sent = await api.sdk(resend.Emails.send, fields)
    got = await api.sdk(resend.Emails.get, sent["id"])
    assert {name: got[name] for name in ("object", "id", "from", "to", "cc", "bcc", "reply_to", "subject", "html")} == {
        "object": "email", "id": sent["id"], "from": "Acme <on@acme.test>",
        "to": ["Ann <ann@one.test>", "bob@two.test"],
        "cc": ["carl@three.test"], "bcc": ["dora@four.test"], "reply_to": ["reply@acme.test"], "subject": "Hello",
        "html": "<p>Hi</p>",
    }  # fmt: skip
    assert got["text"] is None  # it was made from the HTML
    assert got["last_event"] == LastEvent.QUEUED
    assert got["tags"] == [{"name": "kind", "value": "welcome"}]
    assert got["scheduled_at"] is got["topic_id"] is None
    assert got["message_id"] == f"<{sent['id']}@{api.settings.smtp_hostname}>"
    assert datetime.strptime(f"{got['created_at']}00", "%Y-%m-%d %H:%M:%S.%f%z")

    view = await api.parts.outbox.find(sent["id"], content=True)
    assert [r.address for r in view.message.recipients] == [
        "ann@one.test", "bob@two.test", "carl@three.test", "dora@four.test",
    ]  # fmt: skip
    assert b"dora" not in view.content
    assert b"X-Entity-Ref-ID: 17\r\n" in view.content
    assert parts(view.content).text == "Hi"


async def test_strict_batch(api):
    """A batch is taken as a whole; one wrong message refuses all of it with that message's error."""
    sent = await api.sdk(resend.Batch.send, [{**MAIL, "subject": str(n)} for n in range(3)])
    assert [(await api.sdk(resend.Emails.get, one["id"]))["subject"] for one in sent["data"]] == ["0", "1", "2"]
    assert "errors" not in sent
    with pytest.raises(ValidationError, match="Invalid `to` field"):
        await api.sdk(resend.Batch.send, [MAIL, {**MAIL, "to": "nobody"}])
    assert len(await api.parts.outbox.newest(limit=10)) == 3


async def test_permissive_batch(api):
    """In permissive mode the good messages are taken and the others are named."""
    batch = [MAIL, {**MAIL, "to": "nobody"}, {**MAIL, "subject": None}, MAIL]
    sent = await api.sdk(resend.Batch.send, batch, {"batch_validation": "permissive", "idempotency_key": "k"})
    assert len(sent["data"]) == 2
    assert [error["index"] for error in sent["errors"]] == [1, 2]
    assert sent["errors"][1]["message"] == "Missing `subject` field."
    again = await api.sdk(resend.Batch.send, batch, {"batch_validation": "permissive", "idempotency_key": "k"})
    assert (again["data"], again["errors"]) == (sent["data"], sent["errors"])
    assert len(await api.parts.outbox.newest(limit=10)) == 2


async def test_schedule_reschedule_cancel(api):
    """A scheduled message can be moved and cancelled; then it stays cancelled."""
    sent = await api.sdk(resend.Emails.send, {**MAIL, "scheduled_at": "in 1 hour"})
    got = await api.sdk(resend.Emails.get, sent["id"])
    assert got["last_event"] == LastEvent.SCHEDULED
    at = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
    moved = await api.sdk(resend.Emails.update, {"id": sent["id"], "scheduled_at": at.isoformat()})
    assert moved["id"] == sent["id"]
    got = await api.sdk(resend.Emails.get, sent["id"])
    assert got["scheduled_at"] == at.strftime("%Y-%m-%d %H:%M:%S.000000+00")
    cancelled = await api.sdk(resend.Emails.cancel, sent["id"])
    assert (cancelled["object"], cancelled["id"]) == ("email", sent["id"])
    assert (await api.sdk(resend.Emails.get, sent["id"]))["last_event"] == LastEvent.CANCELED
    with pytest.raises(ResendError, match="cannot be rescheduled"):
        await api.sdk(resend.Emails.update, {"id": sent["id"], "scheduled_at": at.isoformat()})


async def test_idempotency(api):
    """The same key with the same request answers the same id and sends nothing; with another it is a conflict."""
    options = {"idempotency_key": "order/17"}
    first = await api.sdk(resend.Emails.send, MAIL, options)
    again = await api.sdk(resend.Emails.send, dict(reversed(MAIL.items())), options)
    assert again["id"] == first["id"]
    assert len(await api.parts.outbox.newest(limit=10)) == 1
    with pytest.raises(ResendError) as conflict:
        await api.sdk(resend.Emails.send, {**MAIL, "subject": "Other"}, options)
    assert (conflict.value.code, conflict.value.error_type) == (409, "invalid_idempotent_request")
    with pytest.raises(ResendError) as too_long:
        await api.sdk(resend.Emails.send, MAIL, {"idempotency_key": "k" * 257})
    assert (too_long.value.code, too_long.value.error_type) == (400, "invalid_idempotency_key")


async def test_concurrent_repeats_send_once(api):
    """Twenty requests at once with one key give one message."""
    headers = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(api.client.post("/emails", json=MAIL, headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await api.parts.outbox.newest(limit=30)) == 1


async def test_error_classes(api):
    """The SDK raises its own classes for our errors."""
    with pytest.raises(MissingRequiredFieldsError, match="Missing `to` field"):
        await api.sdk(resend.Emails.send, {name: value for name, value in MAIL.items() if name != "to"})
    with pytest.raises(ValidationError, match=r"Invalid `from` field\. The email address needs to follow"):
        await api.sdk(resend.Emails.send, {**MAIL, "from": "Acme"})
    await api.record()
    with pytest.raises(ResendError, match="Email not found") as unknown:
        await api.sdk(resend.Emails.get, UNKNOWN)
    assert (unknown.value.code, unknown.value.error_type) == (404, "not_found")
    with pytest.raises(ResendError) as no_such:
        await api.sdk(resend.Contacts.list)
    assert (no_such.value.code, no_such.value.error_type) == (404, "not_found")


async def test_a_wrong_key(api):
    """An unknown key is a 401 in Resend's words."""
    wrong = "re_" + "x" * 8 + "_" + "y" * 24
    answer = await api.client.post("/emails", json=MAIL, headers={"Authorization": f"Bearer {wrong}"})
    assert (answer.status_code, answer.json()) == (
        401,
        {"statusCode": 401, "name": "validation_error", "message": "API key is invalid"},
    )


async def test_the_rate_limit(settings):
    """A key over its rate hears 429 with retry-after; headers tell where it stands."""
    async with running(settings.model_copy(update={"rate_limit": 1})) as api:
        token = await api.key(rate_limit=1)
        headers = {"Authorization": f"Bearer {token}"}
        answers = await asyncio.gather(*(api.client.post("/emails", json=MAIL, headers=headers) for _ in range(4)))
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["name"] == "rate_limit_exceeded"
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit-limit"] == "1"
        assert refused.headers["ratelimit-policy"] == "1;w=1"
        assert refused.headers["ratelimit-remaining"] == "0"
        answers = await asyncio.gather(*(asyncio.to_thread(_error_class, api) for _ in range(4)))
        assert RateLimitError in answers


def _error_class(api) -> type[Exception] | None:
    resend.api_url, resend.api_key = api.url, api.token
    try:
        resend.Emails.send(MAIL)
    except ResendError as error:
        return type(error)
    return None


async def test_list(api):
    """Messages are listed from the newest to the oldest, by cursors."""
    sent = [(await api.sdk(resend.Emails.send, {**MAIL, "subject": str(n)}))["id"] for n in range(5)]
    await api.record()
    page = await api.sdk(resend.Emails.list, {"limit": 2})
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (sent[:2:-1], True)
    page = await api.sdk(resend.Emails.list, {"limit": 3, "after": sent[3]})
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (sent[2::-1], False)
    page = await api.sdk(resend.Emails.list, {"limit": 2, "before": sent[1]})
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([sent[3], sent[2]], True)
    assert set(page["data"][0]) == {
        "id", "message_id", "to", "from", "created_at", "subject", "bcc", "cc", "reply_to", "last_event",
        "scheduled_at", "topic_id",
    }  # fmt: skip
    with pytest.raises(ValidationError, match="The pagination limit must be a number between 1 and 100"):
        await api.sdk(resend.Emails.list, {"limit": 101})
