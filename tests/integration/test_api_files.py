"""Files of sent mail are listed, and fetched from addresses that nobody else can make."""

import httpx
import pytest
import resend

from api.downloads import LIFE, Addresses
from api.errors import ApiError
from tests.fixtures import api_stack
from tests.fixtures.api_stack import MAIL

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
    addresses = Addresses(settings, now=lambda: clock[0])
    url, expires = addresses.of("email", "file")
    signature = url.rpartition("/")[2]
    addresses.check("email", "file", str(expires), signature)
    with pytest.raises(ApiError):
        addresses.check("email", "file", str(expires + 60), signature)
    clock[0] += LIFE.total_seconds() + 1
    with pytest.raises(ApiError):
        addresses.check("email", "file", str(expires), signature)
