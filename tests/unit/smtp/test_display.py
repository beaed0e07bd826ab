import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp.display import Mailbox, mailboxes, shown, unfolded


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain text", "plain text"),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe_an_alle?=", "Grüße an alle"),
        ("=?UTF-8?B?R3LDvMOfZQ==?= du", "Grüße du"),
        ("=?utf-8?q?a?= =?utf-8?q?b?= c", "ab c"),  # RFC 2047 section 6.2
        ("=?iso-8859-1*de?q?=FC?=", "ü"),  # RFC 2231 section 5
        ("=?utf-8?q?a=0D=0ABcc:_x=40y.example?=", "a Bcc: x@y.example"),  # encoded CRLF is no line end here
        ("=?no-such-charset?q?x?=", "=?no-such-charset?q?x?="),
        ("=?utf-8?q?=FF?=", "\ufffd"),
        ("=?utf-8?b?!!!?=", ""),
        ("=?utf-8?b?a?=", "=?utf-8?b?a?="),  # broken base64
        ("=?utf-7?q?+2AA-?= x", "\ufffd x"),  # a lone surrogate is no character
        ("=?unicode_escape?q?=5Cud800?=", "\ufffd"),
        ("=?zlib?b?eJwDAAAAAAE=?=", "=?zlib?b?eJwDAAAAAAE=?="),  # no decompression by charset
        ("=?utf-8?q?open", "=?utf-8?q?open"),
        ("tab\there", "tab here"),
    ],
)
def test_encoded_words_are_shown_decoded(value: str, expected: str):
    """Encoded words (RFC 2047) are decoded for display, what is not one stays."""
    assert shown(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("a@b.c", [("a@b.c", "a@b.c")]),
        ("Ann <a@b.c>", [("Ann <a@b.c>", "a@b.c")]),
        ('"Lee, Ann" <a@b.c>, d@e.f', [('"Lee, Ann" <a@b.c>', "a@b.c"), ("d@e.f", "d@e.f")]),
        ("a@b.c (Ann, (the) first)", [("a@b.c (Ann, (the) first)", "a@b.c")]),
        ("Ann <a@b.c> (x > y)", [("Ann <a@b.c> (x > y)", "a@b.c")]),
        ("=?utf-8?q?J=C3=B6rg=2C_x?= <j@b.c>", [("Jörg, x <j@b.c>", "j@b.c")]),
        ('"x@evil.c" <a@b.c>', [('"x@evil.c" <a@b.c>', "a@b.c")]),
        ('"a\\"b" <a@b.c>', [('"a\\"b" <a@b.c>', "a@b.c")]),
        ("a@b.c,,  ,d@e.f", [("a@b.c", "a@b.c"), ("d@e.f", "d@e.f")]),
        # What one reader takes for one address and another for the other has none.
        ("<a@b.c> <x@evil.c>", [("<a@b.c> <x@evil.c>", "")]),
        ("<a@b.c> x@evil.c", [("<a@b.c> x@evil.c", "")]),
        ("friends: a@b.c, d@e.f;", [("a@b.c", ""), ("d@e.f", "d@e.f")]),
        ('"open <a@b.c>', [('"open <a@b.c>', "")]),
        ("(open <a@b.c>", [("(open <a@b.c>", "")]),
    ],
)
def test_address_lists_are_taken_apart(value: str, expected: list[tuple[str, str]]):
    """Each member of an address list is given as written, with its bare address where that is beyond doubt."""
    assert mailboxes(value, most=10) == tuple(Mailbox(*pair) for pair in expected)


def test_folded_values_are_one_line():
    """Unfolding removes the CRLF and keeps the white space (RFC 5322 section 2.2.3)."""
    assert unfolded(b" a\r\n b\r\n\tc\r\n") == "a b\tc"
    assert unfolded(b" \xff\r\n") == "\ufffd"


@pytest.mark.parametrize("piece", ["(", '"', "<", "=?", "=?a?q?", '\\"', "a,", "((((", "=?a?b?x?= ", '"\\'])
def test_time_grows_no_faster_than_the_input(piece: str):
    """A header of 128 KiB of any one piece is read in well under a second, and without recursion."""
    value = piece * (131_072 // len(piece))
    begun = time.process_time()
    mailboxes(value, most=200)
    shown(value)
    assert time.process_time() - begun < 1


@given(st.text())
def test_no_text_is_too_odd_to_be_shown(value: str):
    """Any text gives a list without control characters, never an error."""
    for mailbox in mailboxes(value, most=10):
        assert mailbox.text.isprintable() or not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in mailbox.text)
