"""Contents lie compressed in the queue, and come out as they went in."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.packing import packed, unpacked
from runtime.compression import compress

LINES = b"".join(b"<tr><td>Item %d</td><td>%d.99</td></tr>\r\n" % (n, n * 7) for n in range(100))


@given(st.binary(max_size=3000))
def test_what_goes_in_comes_out(content):
    """Whatever it is: not only what can be a message."""
    assert unpacked(packed(content)) == content


@pytest.mark.parametrize("content", [b"Subject: x\r\n\r\n" + LINES, compress(LINES), b"", b"\r\n" + LINES])
def test_ordinary_contents(content):
    """Text, and what happens to look compressed already."""
    assert unpacked(packed(content)) == content


def test_text_becomes_small():
    """A receipt in HTML takes a quarter."""
    assert len(packed(LINES)) < len(LINES) / 4


def test_what_does_not_become_small_stays():
    """Random octets, and what is short."""
    noise = random.Random(7).randbytes(4000)
    assert packed(noise) is noise
    assert packed(b"Subject: Hi\r\n\r\nHi\r\n") == b"Subject: Hi\r\n\r\nHi\r\n"


def test_what_lay_there_before_is_read():
    """An earlier version did not compress; and where there is nothing, there is nothing."""
    assert unpacked(b"From: a@b.c\r\n\r\n" + LINES) == b"From: a@b.c\r\n\r\n" + LINES
    assert unpacked(None) is None


def test_small_texts_stay_while_there_is_room():
    """Their time is worth more than memory that nobody needs. Large ones are worth it at any time."""
    small = LINES[:4000]
    assert packed(small, has_room=True) is small
    assert len(packed(small)) < 1000
    assert packed(LINES * 4, has_room=True) == packed(LINES * 4)
