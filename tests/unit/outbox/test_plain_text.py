"""Text from HTML: readable, with links, and in time that grows with the HTML only."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.plain_text import LONGEST, from_html


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Hi &amp; bye</p><p>you</p>", "Hi & bye\n\nyou"),
        ("a<br>b", "a\nb"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<a href='https://x.org/?a=1&amp;b=2'>here</a>.", "here (https://x.org/?a=1&b=2)."),
        ("<a href='https://x.org'>https://x.org</a>", "https://x.org"),
        ("<a href='javascript:x'>go</a>", "go"),
        ("<p><a href='tel:1'>one<p><a href='tel:2'>two</a> three", "one (tel:1)\n\ntwo (tel:2) three"),
        ("<style>p{}</style><script>1</script>seen<!-- not -->", "seen"),
        ("<table><tr><td>a<td>b<tr><td>c</table>", "a b\nc"),
        ("  much \n\n space ", "much space"),
        ("<img alt='Logo'>", "Logo"),
        ("", ""),
    ],
)
def test_what_is_shown(html, text):
    """Each row is a construct that mails have."""
    assert from_html(html) == text


@given(st.text(st.sampled_from("<>&;/!-ap ='\"\n\x00\ud800"), max_size=200))
def test_any_html_gives_text(html):
    """Whatever stands there, text comes back."""
    assert isinstance(from_html(html), str)


@pytest.mark.parametrize("bomb", ["<div>", "<!--", "<a href=https://a.b>", "<", "&", "<table><tr><td>x", "<p a=b "])
def test_bombs_are_harmless(bomb):
    """The greatest input there can be, of the worst kind, is done in seconds and grows little."""
    started = time.process_time()
    text = from_html(bomb * (LONGEST // len(bomb)))
    assert len(text) <= 4 * LONGEST
    assert time.process_time() - started < 5


def test_links_without_an_end_are_harmless():
    """Thousands of open links around many words are no more work than closed ones."""
    started = time.process_time()
    text = from_html("<p><a href=tel:q>" * 7700 + "w<br>" * 26000)
    assert text.count("w") == 26000
    assert time.process_time() - started < 2
