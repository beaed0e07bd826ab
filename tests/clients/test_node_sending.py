"""The unmodified official SDK for Node sends, reads, moves and cancels mail; its errors are those it knows."""

import pytest

from tests.fixtures.waiting import until_sync

MAIL = {"from": "Acme <on@acme.test>", "to": ["ann@one.test"], "subject": "Hello", "html": "<p>Hi</p>"}


def test_send_and_get(sdk, stack):
    """A message arrives at the next hop under the id that the SDK was given, and can be fetched."""
    sent = sdk("emails.send", {**MAIL, "subject": "From Node", "tags": [{"name": "kind", "value": "welcome"}]})
    assert sent["id"] in stack.await_mail("From Node")["message_id"]
    until_sync(lambda: sdk("emails.get", sent["id"])["last_event"] == "delivered")
    got = sdk("emails.get", sent["id"])
    assert (got["from"], got["to"], got["tags"]) == (MAIL["from"], MAIL["to"], [{"name": "kind", "value": "welcome"}])
    assert sent["id"] in [listed["id"] for listed in sdk("emails.list", {"limit": 5})["data"]]


def test_an_idempotency_key_sends_once(sdk):
    """The same key and request give the same id; another request under that key is the SDK's 409."""
    first = sdk("emails.send", MAIL, {"idempotencyKey": "node-1"})
    assert sdk("emails.send", MAIL, {"idempotencyKey": "node-1"}) == first
    error = sdk.answer("emails.send", {**MAIL, "subject": "Other"}, {"idempotencyKey": "node-1"})["error"]
    assert (error["name"], error["statusCode"]) == ("invalid_idempotent_request", 409)


def test_batches(sdk):
    """Strict batches are taken whole; permissive ones name what was not taken."""
    assert len(sdk("batch.send", [MAIL, MAIL])["data"]) == 2
    wrong = [MAIL, {**MAIL, "to": ["nobody"]}]
    assert sdk.answer("batch.send", wrong)["error"]["name"] == "validation_error"
    permissive = sdk("batch.send", wrong, {"batchValidation": "permissive"})
    assert (len(permissive["data"]), [error["index"] for error in permissive["errors"]]) == (1, [1])


def test_schedule_move_cancel(sdk):
    """A scheduled message can be moved and cancelled."""
    sent = sdk("emails.send", {**MAIL, "scheduledAt": "in 1 hour"})
    assert sdk("emails.get", sent["id"])["last_event"] == "scheduled"
    before = sdk("emails.get", sent["id"])["scheduled_at"]
    assert sdk("emails.update", {"id": sent["id"], "scheduledAt": "in 2 hours"})["id"] == sent["id"]
    assert sdk("emails.get", sent["id"])["scheduled_at"] > before
    assert sdk("emails.cancel", sent["id"])["id"] == sent["id"]
    assert sdk("emails.get", sent["id"])["last_event"] == "canceled"


@pytest.mark.parametrize(
    ("mail", "name", "status"),
    [
        ({"to": "ann@one.test"}, "missing_required_field", 422),
        (MAIL | {"from": "nobody"}, "validation_error", 422),
        (MAIL | {"to": "nobody"}, "validation_error", 422),
    ],
)
def test_bad_input_is_the_error_that_the_sdk_knows(sdk, mail, name, status):
    """Errors come as objects with Resend's names."""
    error = sdk.answer("emails.send", mail)["error"]
    assert (error["name"], error["statusCode"]) == (name, status)


def test_a_wrong_key_is_told_so(sdk):
    """An unknown key is an error of the SDK's, not an exception."""
    error = sdk.answer("emails.send", MAIL, key="re_wrong")["error"]
    assert error["statusCode"] in {401, 403}
