"""Tracked addresses lead where the mail said, and nowhere else."""

import re
from base64 import urlsafe_b64encode
from html import unescape

import pytest

from outbox.tracking import LONGEST, Tracked, Tracking, followed
from runtime.settings import Settings
from tests.fixtures.mail import NOON

SETTINGS = Settings(secret="0123456789abcdef", public_url="https://mail.ours.test/")
TRACKING = Tracking(SETTINGS)
TRACKED = Tracked("01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae", NOON)
BOTH = {"open_tracking": True, "click_tracking": True}


def tracked(html, domain=BOTH, **more):
    return TRACKING.track(html, domain, TRACKED, **more)


def addresses(html):
    """The words of each address of ours."""
    found = re.findall(r'(?:href|src)="https://mail\.ours\.test/([co])/([^"]+)"', html)
    return [(kind, unescape(rest).split("/")) for kind, rest in found]


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://a.test", "http://a.test"),
        (" HTTPS://A.test/x?y=1&z=%20#f\n", "HTTPS://A.test/x?y=1&z=%20#f"),
        ("https://a.test/ü?ö=a b", "https://a.test/%C3%BC?%C3%B6=a%20b"),
        ("https://a.te\nst/", "https://a.test/"),
        ("https://a.test/\x00b", None),
        ("https://a.test/\r\x0bb", None),
        ("https://[2001:db8::1]:8080/", "https://[2001:db8::1]:8080/"),
        ("//evil.test", None),
        ("/path", None),
        ("javascript:alert(1)", None),
        ("java\nscript:alert(1)", None),
        ("data:text/html,x", None),
        ("mailto:a@b.test", None),
        ("tel:+1", None),
        ("#top", None),
        ("https:\\\\evil.test", None),
        ("https:/evil.test", None),
        ("https:///evil.test", None),
        ("https://user:word@a.test/", None),
        ("https://bücher.test/", None),
        ("https://a.test/\ud800", "https://a.test/?"),
        ("https://a.test/" + "x" * LONGEST, None),
        ("", None),
    ],
)
def test_what_is_followed(written, url):
    """The web, in ASCII, as a browser would go there; the rest is left alone."""
    assert followed(written) == url


def test_a_tracked_mail_leads_on():
    """Each link to its own address, the image to the message."""
    html = tracked('<body><a href="https://a.test/?b=1&amp;c=ü">x</a><a href="mailto:x@a.test">y</a></body>')
    (_, click), (_, image) = addresses(html)
    assert TRACKING.clicked(*click) == (TRACKED, "https://a.test/?b=1&c=%C3%BC")
    assert TRACKING.opened(*image) == TRACKED
    assert '<a href="mailto:x@a.test">y</a><img' in html
    assert html.endswith("</body>")


def test_only_what_is_wanted():
    """Opens, clicks, both or neither; with a name of the domain's own there; without any name not at all."""
    link = '<a href="https://a.test/">x</a>'
    assert tracked(link, {"open_tracking": False, "verified": True}) is None
    assert tracked(link, {"click_tracking": True}).count("mail.ours.test") == 1
    assert tracked(link, {"open_tracking": True}).startswith(f'{link}<img src="https://mail.ours.test/o/')
    assert tracked(link, BOTH | {"tracking_host": "go.acme.test"}).count('"https://go.acme.test/') == 2
    nameless = Tracking(SETTINGS.model_copy(update={"public_url": None, "route": "mx"}))
    assert nameless.track(link, BOTH, TRACKED) is None


def test_unsubscribing_is_left_alone():
    """An address that the List-Unsubscribe header has works without this server."""
    html = tracked(
        '<a href="https://a.test/u?x=1&amp;y=2">', except_for="<mailto:u@a.test>, <https://a.test/u?x=1&y=2>"
    )
    assert '<a href="https://a.test/u?x=1&amp;y=2">' in html


def test_no_open_redirect():
    """No word of an address can be changed, and another key's signature is none."""
    (_, (message_id, at, signature, packed)), _ = addresses(tracked("<a href=https://a.test/>x</a>"))
    assert TRACKING.clicked(message_id, at, signature, packed)
    evil = urlsafe_b64encode(b"https://evil.test/").rstrip(b"=").decode()
    for wrong in (
        (message_id, at, signature, evil),
        (message_id, at, signature, packed + "A"),
        (message_id, at, signature, "ü"),
        (message_id, at, signature, "a"),
        (message_id[::-1], at, signature, packed),
        (message_id, "0", signature, packed),
        (message_id, at, signature[::-1], packed),
        (message_id, at, "", packed),
        (message_id, at, "ü", packed),
    ):
        assert TRACKING.clicked(*wrong) is None
    stranger = Tracking(SETTINGS.model_copy(update={"secret": Settings(secret="f" * 16).secret}))
    assert stranger.clicked(message_id, at, signature, packed) is None
    assert TRACKING.opened(message_id, at, signature) is None


@pytest.mark.parametrize("url", ["javascript:alert(1)", "//evil.test", "https://a.test/\r\nx: y"])
def test_even_signed_only_the_web_is_followed(url):
    """A second look, should a later version sign too much."""
    at = "1"
    signature = TRACKING._signer.sign("click", TRACKED.message_id, at, url)
    packed = urlsafe_b64encode(url.encode()).rstrip(b"=").decode()
    assert TRACKING.clicked(TRACKED.message_id, at, signature, packed) is None
