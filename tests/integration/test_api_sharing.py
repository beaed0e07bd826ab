"""A shared message can be read by whoever has its address, for a time; what is in it can do nothing."""

from datetime import timedelta

import httpx
import pytest
import resend

from api import shares
from api.errors import ApiError
from api.sharing import read_duration
from tests.fixtures import api_stack
from tests.fixtures.api_stack import MAIL

api = api_stack.api
HTML = '<p>Hi "you"</p><script>alert(1)</script></iframe>'


async def test_a_message_is_shown(api):
    """The page has its words, as text and in a box without rights, and not those to whom it was hidden."""
    fields = MAIL | {"subject": "<b>Tea</b>", "html": HTML, "bcc": "hidden@there.test"}
    sent = await api.sdk(resend.Emails.send, fields)
    shared = await api.sdk(resend.Emails.share, sent["id"], {"expires_in": "10m"})
    assert (shared["object"], shared["id"]) == ("email", sent["id"])
    async with httpx.AsyncClient(trust_env=False, verify=False) as nobody:
        page = await nobody.get(shared["url"])
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("sandbox; default-src 'none'; img-src data:;")
        assert "&lt;b&gt;Tea&lt;/b&gt;" in page.text
        assert "&lt;script&gt;" in page.text
        assert "<script" not in page.text
        assert page.text.count("</iframe>") == 1
        assert "hidden@there.test" not in page.text
        address, _, signature = shared["url"].rpartition("/")
        start, _, expires = address.rpartition("/")
        for wrong in (shared["url"] + "A", f"{start}/{int(expires) + 60}/{signature}"):
            assert (await nobody.get(wrong)).status_code == 403


async def test_what_is_not_there_is_not_shared(api):
    """No such message, or no such time."""
    sent = (await api.client.post("/emails", json=MAIL | {"text": "Hi", "html": None})).json()["id"]
    await api.record()
    assert (await api.client.post(f"/emails/{sent[:-4]}0000/share")).status_code == 404
    refused = await api.client.post(f"/emails/{sent}/share", json={"expires_in": "3 days"})
    assert (refused.status_code, "`expires_in`" in refused.json()["message"]) == (422, True)
    url = (await api.client.post(f"/emails/{sent}/share")).json()["url"]
    assert "<pre>Hi" in (await api.client.get(url)).text


def test_addresses_expire(settings):
    """In the end."""
    url, expires = shares.addresses(settings).of("email", life=timedelta(seconds=-1))
    signature = url.rpartition("/")[2]
    with pytest.raises(ApiError):
        shares.addresses(settings).check("email", expires=str(expires), signature=signature)


@pytest.mark.parametrize(
    ("written", "seconds"), [(None, 172800), ("10m", 600), ("2 hours", 7200), (" 1 Day", 86400), ("48h", 172800)]
)
def test_durations(written, seconds):
    assert read_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize("written", ["", "0s", "49h", "soon", "-1 day", "1.5h", "10", "999999d", "1000000d"])
def test_wrong_durations(written):
    with pytest.raises(ApiError, match="expires_in"):
        read_duration(written)
