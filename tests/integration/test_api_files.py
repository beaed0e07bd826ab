"""Files of sent mail are listed, and fetched from addresses that nobody else can make."""

import httpx
import pytest
import resend

from api import fetching
from api.downloads import LIFE, addresses
from api.errors import ApiError
from outbox.content import files
from runtime.networks import parse_networks
from tests.fixtures import api_stack
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.receiver import SILENCE, Receiver, answer

api = api_stack.api
FILES = [
    {"filename": "räport.pdf", "content": list(b"%PDF octets"), "content_type": "application/pdf"},
    {"filename": "logo.png", "content": "iVBORw==", "content_id": "logo"},
    {"filename": "note.txt", "content": list(b"a text file")},
]


async def test_the_files_of_a_message(api):
    """They are listed with what was said about them, page by page, and come back octet by octet without a key."""
    sent = await api.sdk(resend.Emails.send, {**MAIL, "html": '<img src="cid:logo">', "attachments": FILES})
    listed = (await api.sdk(resend.Emails.Attachments.list, sent["id"]))["data"]
    shown = [tuple(one[n] for n in ("filename", "content_disposition", "content_id", "size")) for one in listed]
    assert shown == [
        ("logo.png", "inline", "logo", 4),
        ("räport.pdf", "attachment", None, 11),
        ("note.txt", "attachment", None, 11),
    ]
    got = await api.sdk(resend.Emails.Attachments.get, sent["id"], listed[1]["id"])
    assert (got["object"], got["content_type"]) == ("attachment", "application/pdf")
    page = (await api.client.get(f"/emails/{sent['id']}/attachments?limit=1&after={listed[0]['id']}")).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([listed[1]["id"]], True)

    async with httpx.AsyncClient(trust_env=False, verify=False) as nobody:
        answer = await nobody.get(got["download_url"])
        assert (answer.status_code, answer.content) == (200, b"%PDF octets")
        assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''r%C3%A4port.pdf"
        assert answer.headers["x-content-type-options"] == "nosniff"
        other = got["download_url"].replace(got["id"], listed[0]["id"])
        for wrong in (other, got["download_url"][:-1], got["download_url"] + "A"):
            assert (await nobody.get(wrong)).status_code == 403


async def test_what_is_not_there(api):
    """No files, no such file, no such message."""
    sent = (await api.client.post("/emails", json=MAIL)).json()["id"]
    await api.record()
    assert (await api.client.get(f"/emails/{sent}/attachments")).json() == {
        "object": "list", "has_more": False, "data": [],
    }  # fmt: skip
    for path in (f"/emails/{sent}/attachments/{sent}", f"/emails/{sent[:-4]}0000/attachments"):
        answer = await api.client.get(path)
        assert (answer.status_code, answer.json()["name"]) == (404, "not_found")


def test_addresses_expire(settings):
    """After an hour the address is worth nothing, and it cannot be given a longer life."""
    clock = [1_000_000.0]
    signed = addresses(settings, now=lambda: clock[0])
    url, expires = signed.of("email", "file", life=LIFE)
    signature = url.rpartition("/")[2]
    signed.check("email", "file", expires=str(expires), signature=signature)
    with pytest.raises(ApiError):
        signed.check("email", "file", expires=str(expires + 60), signature=signature)
    clock[0] += LIFE.total_seconds() + 1
    with pytest.raises(ApiError):
        signed.check("email", "file", expires=str(expires), signature=signature)


async def test_files_by_url(settings):
    """They are fetched before the message is taken, under their own names, once each."""
    settings = settings.model_copy(update={"reachable_networks": parse_networks("127.0.0.0/8")})
    async with Receiver(answer(200, b"octets")) as receiver, running(settings) as api:
        url = receiver.url("/a/r%C3%A4port.pdf?x=1")
        fields = {**MAIL, "attachments": [{"path": url}, {"path": url, "filename": "b.txt", "content_type": "text/x"}]}
        sent = await api.sdk(resend.Emails.send, fields)
        assert len(receiver.requests) == 1
        view = await api.parts.outbox.find(sent["id"], content=True)
        assert [(file.filename, file.content_type, file.content) for file in files(view.content)] == [
            ("räport.pdf", "application/pdf", b"octets"),
            ("b.txt", "text/x", b"octets"),
        ]

        both = [fields, {**MAIL, "attachments": [{"path": receiver.url("/x.exe")}]}]
        batch = await api.client.post("/emails/batch", json=both, headers={"x-batch-validation": "permissive"})
        assert len(batch.json()["data"]) == 1
        assert (
            batch.json()["errors"][0]["message"] == "Invalid `attachments` field. Files of type `.exe` cannot be sent."
        )

        receiver.says = answer(404)
        refused = await api.client.post("/emails", json=fields)
        assert (refused.status_code, refused.json()["name"]) == (422, "validation_error")
        assert refused.json()["message"].endswith("the answer was 404.")
        receiver.says = answer(302, location=receiver.url("/"))
        assert (await api.client.post("/emails", json=fields)).status_code == 422
        receiver.says = answer(500)
        later = await api.client.post("/emails", json=fields)
        assert (later.status_code, later.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(("mode", "asked"), [("strict", 1), ("permissive", 3)])
async def test_what_is_taken_as_a_whole_fails_with_its_first_file(settings, mode, asked):
    """No more is fetched for a request that is refused already."""
    settings = settings.model_copy(update={"reachable_networks": parse_networks("127.0.0.0/8")})
    async with Receiver(answer(404)) as receiver, running(settings) as api:
        batch = [{**MAIL, "attachments": [{"path": receiver.url(f"/{n}.txt")}]} for n in range(3)]
        got = await api.client.post("/emails/batch", json=batch, headers={"x-batch-validation": mode})
        assert "the answer was 404." in got.text
        assert len(receiver.requests) == asked


async def test_all_files_of_a_request_share_their_time(settings, monkeypatch):
    """A server that hangs takes no more than that, however many files it has."""
    monkeypatch.setattr(fetching, "_SECONDS_IN_ALL", 0.5)
    settings = settings.model_copy(update={"reachable_networks": parse_networks("127.0.0.0/8")})
    async with Receiver(SILENCE) as receiver, running(settings) as api:
        batch = [{**MAIL, "attachments": [{"path": receiver.url(f"/{n}.txt")}]} for n in range(3)]
        got = await api.client.post("/emails/batch", json=batch, headers={"x-batch-validation": "permissive"})
        assert [error["message"] for error in got.json()["errors"]] == ["API is temporarily unavailable"] * 3
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "path", ["http://127.0.0.1:9/x", "http://169.254.169.254/latest", "file:///etc/passwd", "x", "http://[::1]/", ""]
)
async def test_no_way_into_our_own_network(api, path):
    """A URL that leads inside, or is none, is refused with the field's name, and nobody is asked."""
    answer = await api.client.post("/emails", json={**MAIL, "attachments": [{"filename": "a", "path": path}]})
    assert answer.status_code == 422
    assert "ttachment" in answer.json()["message"]
