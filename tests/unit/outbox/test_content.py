"""Reading bodies back: whatever octets are stored, an answer comes and never an exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.content import Parts, parts

HEAD = b"MIME-Version: 1.0\r\nContent-Type: "


@given(st.binary(max_size=400), st.sampled_from([b"", HEAD + b"multipart/mixed; boundary=x\r\n\r\n--x\r\n", HEAD]))
def test_any_octets_give_an_answer(octets, head):
    """Octets from outside never raise."""
    assert isinstance(parts(head + octets), Parts)


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (b"Subject: x\r\n\r\nplain\r\n", Parts(text="plain\n")),  # no MIME at all (RFC 2045 section 5.2)
        (HEAD + b"text/html; charset=iso-8859-1\r\n\r\n\xe4", Parts(html="\u00e4")),
        (HEAD + b"text/html; charset=no-such\r\n\r\n\xc3\xa4", Parts(html="\u00e4")),
        (HEAD + b"text/plain; name=a.txt\r\n\r\nfile", Parts()),
        (HEAD + b"text/plain\r\nContent-Disposition: attachment\r\n\r\nfile", Parts()),
        (HEAD + b"image/png\r\n\r\nx", Parts()),
    ],
)
def test_kinds_of_mail(octets, found):
    """Bodies are found by their type, files are left aside, odd charsets are read as far as they can be."""
    assert parts(octets) == found


def test_deep_nesting_is_survived():
    """A message nested a thousand levels deep gives nothing rather than a crash."""
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (i, i) for i in range(1000))
    assert parts(nested + b"Content-Type: text/plain\r\n\r\nx") == Parts()


@pytest.mark.parametrize("text", ["short", "long line\n" * 200_000])
def test_large_messages(text):
    """Of a message with large files only the front is parsed, unless the texts reach beyond it."""
    file = b"--x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"AAAA\r\n" * 300_000
    octets = b"--x\r\nContent-Type: text/plain\r\n\r\n" + text.encode() + b"\r\n" + file + b"--x--\r\n"
    assert parts(HEAD + b"multipart/mixed; boundary=x\r\n\r\n" + octets) == Parts(text=text)
