"""Templates by the unmodified SDK: drafts, publishing, sending; without a database."""

import pytest
import resend
from resend.exceptions import ResendError

from outbox import template_store
from outbox.content import parts
from outbox.template_store import ALIAS
from tests.fixtures import api_stack

api = api_stack.api
ORDER = {
    "name": "order confirmation",
    "alias": "order",
    "from": "Shop <shop@acme.test>",
    "subject": "Thanks, {{{NAME}}}",
    "reply_to": "help@acme.test",
    "html": "<p>{{{PRODUCT}}} for {{{PRICE}}}</p>",
    "variables": [
        {"key": "NAME", "type": "string"},
        {"key": "PRODUCT", "type": "string", "fallback_value": "item"},
        {"key": "PRICE", "type": "number", "fallback_value": 25},
    ],
}
SEND = {"to": "ann@one.test", "template": {"id": "order", "variables": {"NAME": "Ann"}}}


async def refused(api, call, *arguments):
    """Status, name and message of the SDK's error."""
    with pytest.raises(ResendError) as caught:
        await api.sdk(call, *arguments)
    return int(caught.value.code), caught.value.error_type, str(caught.value.message)


async def sent(api, **changed):
    """The message that the outbox has after a send."""
    sent = await api.sdk(resend.Emails.send, {**SEND, **changed})
    return await api.parts.outbox.find(sent["id"], content=True)


async def test_the_life_of_a_template(api):
    """A draft is read, changed, published, copied, listed and removed."""
    made = await api.sdk(resend.Templates.create, ORDER)
    got = await api.sdk(resend.Templates.get, "order")
    assert {name: got[name] for name in ("id", "object", "name", "alias", "from", "subject", "html")} == {
        "id": made["id"], "object": "template", **{n: ORDER[n] for n in ("name", "alias", "from", "subject", "html")},
    }  # fmt: skip
    assert (got["status"], got["published_at"], got["has_unpublished_versions"]) == ("draft", None, True)
    assert got["reply_to"] == ["help@acme.test"]
    assert got["text"] is None
    assert got["variables"][2] == {"key": "PRICE", "type": "number", "fallback_value": 25}

    await api.sdk(resend.Templates.publish, made["id"])
    got = await api.sdk(resend.Templates.get, made["id"])
    assert (got["status"], got["has_unpublished_versions"]) == ("published", False)

    await api.sdk(resend.Templates.update, {"id": "order", "alias": "orders", "html": "<p>new</p>"})
    got = await api.sdk(resend.Templates.get, "orders")
    assert (got["html"], got["subject"], got["has_unpublished_versions"]) == ("<p>new</p>", ORDER["subject"], True)
    assert (await refused(api, resend.Templates.get, "order"))[0] == 404

    copy = await api.sdk(resend.Templates.duplicate, made["id"])
    listed = await api.sdk(resend.Templates.list)
    assert [(one["id"], one["alias"], one["status"]) for one in listed["data"]] == [
        (copy["id"], None, "draft"),
        (made["id"], "orders", "published"),
    ]
    one = await api.sdk(resend.Templates.list, {"limit": 1})
    assert one["has_more"] is True
    removed = await api.sdk(resend.Templates.remove, "orders")
    assert (removed["object"], removed["id"], removed["deleted"]) == ("template", made["id"], True)
    assert await refused(api, resend.Templates.get, made["id"]) == (404, "not_found", "Template not found")


async def test_sending(api):
    """The template's words are sent, and what the request says goes before them. A draft changes nothing."""
    await api.sdk(resend.Templates.create, ORDER)
    await api.parts.policy.refresh()
    assert await refused(api, resend.Emails.send, SEND) == (
        422, "validation_error", "Invalid `template` field. The template is not published.",
    )  # fmt: skip
    await api.sdk(resend.Templates.publish, "order")
    await api.sdk(resend.Templates.update, {"id": "order", "html": "<p>draft</p>"})

    view = await sent(api)
    assert (view.message.sender, view.message.subject) == ("Shop <shop@acme.test>", "Thanks, Ann")
    assert view.message.reply_to == ("help@acme.test",)
    assert parts(view.content).html == "<p>item for 25</p>"
    assert parts(view.content).text == "item for 25"

    view = await sent(api, subject="Mine", **{"from": "me@acme.test"})
    assert (view.message.sender, view.message.subject) == ("me@acme.test", "Mine")

    batch = await api.sdk(resend.Batch.send, [SEND, {**SEND, "subject": "Second"}])
    views = [await api.parts.outbox.find(one["id"]) for one in batch["data"]]
    assert [view.message.subject for view in views] == ["Thanks, Ann", "Second"]


async def test_refused_sends(api):
    """Each mistake has its words, and nothing is sent."""
    made = await api.sdk(resend.Templates.create, ORDER)
    await api.sdk(resend.Templates.publish, made["id"])
    wrong = {
        '{"id": "order"}': (422, "validation_error", 'Missing value for variable "NAME".'),
        "number": (422, "validation_error", 'Variable "NAME" must be a `string`.'),
        "unknown": (404, "not_found", "Template not found"),
        "no id": (422, "missing_required_field", "Missing `template.id` field."),
    }
    uses = ({"id": "order"}, {"id": "order", "variables": {"NAME": 1}}, {"id": "none"}, {"variables": {}})
    for use, expected in zip(uses, wrong.values(), strict=True):
        assert await refused(api, resend.Emails.send, {**SEND, "template": use}) == expected
    with_html = await refused(api, resend.Emails.send, {**SEND, "html": "<p>too</p>"})
    assert with_html[2] == "Invalid `template` field. It cannot be used together with `html` or `text`."
    injected = {"id": "order", "variables": {"NAME": "Ann\r\nBcc: eve@evil.test"}}
    assert "`subject`" in (await refused(api, resend.Emails.send, {**SEND, "template": injected}))[2]
    no_sender = {"name": "plain", "html": "Hi", "alias": "plain"}
    await api.sdk(resend.Templates.create, no_sender)
    await api.sdk(resend.Templates.publish, "plain")
    missing = await refused(api, resend.Emails.send, {"to": "a@one.test", "template": {"id": "plain"}})
    assert missing == (422, "missing_required_field", "Missing `from` field.")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": " "}, "name"),
        ({"html": ""}, "html"),
        ({"alias": "a b"}, "alias"),
        ({"alias": "01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae"}, "alias"),
        ({"html": "x" * 600_000}, "html"),
        ({"subject": "x" * 1000}, "subject"),
        ({"variables": [{"key": "a-b", "type": "string"}]}, "variables"),
        ({"variables": [{"key": "EMAIL", "type": "string"}]}, "variables"),
        ({"variables": [{"key": "A", "type": "list"}]}, "variables"),
        ({"variables": [{"key": "A", "type": "string", "fallback_value": 1}]}, "variables"),
        ({"variables": [{"key": "A", "type": "string"}] * 2}, "variables"),
        ({"variables": [{"key": f"A{n}", "type": "string"} for n in range(51)]}, "variables"),
    ],
)
async def test_refused_templates(api, changed, field):
    """A template that could not be sent is not made."""
    status, _, message = await refused(api, resend.Templates.create, {**ORDER, **changed})
    assert status == 422
    assert f"`{field}`" in message


async def test_aliases_are_unique(api, monkeypatch):
    """Two templates never share an alias; one that a crash left behind is free. All together have bounded room."""
    await api.sdk(resend.Templates.create, ORDER)
    assert "alias" in (await refused(api, resend.Templates.create, ORDER))[2]
    await api.store.put(ALIAS, "left", {"id": "01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae"})
    await api.sdk(resend.Templates.create, {**ORDER, "alias": "left"})
    monkeypatch.setattr(template_store, "ROOM", 1000)
    assert "no room" in (await refused(api, resend.Templates.create, {**ORDER, "alias": "third"}))[2]


async def test_ids_that_are_none(api):
    """Whatever stands in the path reaches the control API as it came, and is not found."""
    for path in ("%C3%93%1F", "%0A", "a%2Fb", "%00", "%FF", "a%3Fb", ".."):
        answer = await api.client.get(f"/templates/{path}")
        assert (answer.status_code, answer.json()["name"]) in {(404, "not_found"), (422, "invalid_parameter")}
