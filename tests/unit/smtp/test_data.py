import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.door import Octets
from smtp import data
from smtp.data import MAX_LINE, Content, canonical
from smtp.replies import Goodbye, Refused

NEXT = b"MAIL FROM:<next@x.example>\r\n"


def received(pieces: list[bytes], *, most: int = 10_000, memory: Octets | None = None) -> tuple[bytes, bytes]:
    """The content, and what was left for the next command, of octets that arrive in `pieces`."""
    content = Content(most=most, memory=memory or Octets(1_000_000))
    try:
        for at, piece in enumerate(pieces, 1):
            if (rest := content.feed(piece)) is not None:
                return content.octets(), rest + b"".join(pieces[at:])
    finally:
        content.release()
    raise AssertionError("no final dot")


def stuffed(content: bytes) -> bytes:
    """What a client sends for `content` (RFC 5321 section 4.5.2)."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n"


_LINES = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"x.", b"text", b"y" * 100, b"a\rb", b"a\nb", b"\n.\r"]))


@given(
    lines=_LINES,
    cuts=st.lists(st.integers(1, 30), min_size=1, max_size=20),
)
def test_content_arrives_whole_however_it_is_cut(lines: list[bytes], cuts: list[int]):
    """Dots are unstuffed and the end is found whatever the sizes of segments."""
    content = b"".join(line + b"\r\n" for line in lines)
    wire = stuffed(content) + NEXT
    pieces, at = [], 0
    while at < len(wire):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(wire[at : at + size])
        at += size
    assert received(pieces) == (content, NEXT)


def test_a_message_of_just_the_largest_size_is_taken():
    """The limit counts octets of content: stuffed dots do not count."""
    content = b".\r\n" * 1000
    assert received([stuffed(content)], most=3000)[0] == content
    with pytest.raises(Refused, match=r"552 5\.3\.4"):
        received([stuffed(content)], most=2999)


def test_too_large_a_message_is_read_to_its_end():
    """The client hears 552 after its dot, and the session stays in step."""
    content = Content(most=3_750, memory=Octets(10**6))
    assert content.feed(b"x" * 6_000) is None
    assert content.feed(b"\r\n.\r\n" + NEXT) == NEXT
    with pytest.raises(Refused, match=r"552 5\.3\.4"):
        content.octets()


def test_an_endless_message_is_cut_off():
    """Who goes on for as long again is not listened to any longer."""
    content = Content(most=5_000, memory=Octets(10**6))
    for _ in range(13):
        assert content.feed(b"x" * 1_000) is None
    with pytest.raises(Goodbye, match=r"552 5\.3\.4"):
        content.feed(b"x" * 1_000)


def test_without_room_a_large_message_is_asked_to_come_later():
    """When others fill the memory the reply is temporary, and the room is given back after."""
    memory, large = Octets(100_000), [b"x" * 45_000, b"x" * 45_000 + b"\r\n.\r\n"]
    assert memory.take(50_000)
    with pytest.raises(Refused, match=r"452 4\.3\.1"):
        received(large, most=10**6, memory=memory)
    assert memory.used == 50_000
    memory.give_back(50_000)
    assert len(received(large, most=10**6, memory=memory)[0]) == 90_002
    assert memory.used == 0


def test_small_mail_needs_no_room():
    """A memory that large messages fill refuses no small one."""
    memory = Octets(1)
    assert received([b"x" * 16_000, b"x" * 16_000 + b"\r\n.\r\n"], most=10**6, memory=memory)[1] == b""


def test_a_client_that_leaves_has_sent_nothing():
    """Without the final dot there is no message."""
    assert Content(most=100, memory=Octets(1)).feed(b"half a line\r\n.") is None


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\r\n", b"\n\r\r\n", b"x\r\n\n.\r\n"])
def test_bare_line_ends_are_refused_or_become_crlf(content: bytes):
    """By default 550 5.6.11; by setting each of them becomes one CRLF."""
    with pytest.raises(Refused, match=r"550 5\.6\.11"):
        canonical(content, bare="refuse", most=10**6)
    normal = canonical(content, bare="normalise", most=10**6)
    assert normal.count(b"\n") == normal.count(b"\r") == normal.count(b"\r\n")
    assert normal.replace(b"\r\n", b"") == content.replace(b"\r", b"").replace(b"\n", b"")


def test_line_ends_that_become_crlf_count():
    """The limit holds for what is sent on, which is longer than what came; what was canonical was measured before."""
    assert len(canonical(b"\n" * 500, bare="normalise", most=1_000)) == 1_000
    with pytest.raises(Refused, match=r"552 5\.3\.4"):
        canonical(b"\n" * 501, bare="normalise", most=1_000)


@pytest.mark.parametrize("bare", ["refuse", "normalise"])
def test_nul_and_overlong_lines_are_refused(bare: str):
    """NUL has no normal form; a line of more than MAX_LINE octets neither."""
    with pytest.raises(Refused, match=r"550 5\.6\.11"):
        canonical(b"a\0b\r\n", bare=bare, most=10**6)
    longest = b"x" * MAX_LINE + b"\r\n"
    assert canonical(longest * 3, bare=bare, most=10**6) == longest * 3
    for content in (b"y" + longest, longest + b"y" + longest, b"short\r\n" + longest + b"z" * (MAX_LINE + 1)):
        with pytest.raises(Refused, match=r"550 5\.6\.0"):
            canonical(content, bare=bare, most=10**6)


@given(st.binary(max_size=500))
def test_canonical_octets_are_left_alone(content: bytes):
    """What is canonical is given back as the same object."""
    clean = content.replace(b"\0", b"").replace(b"\r", b"").replace(b"\n", b"\r\n")
    assert canonical(clean, bare="refuse", most=10**6) is clean


@given(st.text("\r\nx", max_size=30), st.integers(1, 9))
def test_bare_line_ends_are_found_wherever_the_windows_end(text: str, window: int):
    """Large content is looked at a window at a time; pairs at the borders are pairs."""
    content = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_WINDOW", window)
        is_bare = data._has_bare(content)
    assert is_bare == bool(re.search(rb"\r(?!\n)|(?<!\r)\n", content))
