import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.reply import MAX_LINE, MAX_REPLY, NoReply, Reply, ReplyReader


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"250 ok\r\n", Reply(250, ("ok",))),
        (b"250\r\n", Reply(250, ("",))),  # text is optional in practice
        (b"250-one\r\n250-two\r\n250 three\r\n", Reply(250, ("one", "two", "three"))),
        (b"550 bare line feed\n", Reply(550, ("bare line feed",))),
        (b"550 \x1b[31mred\r\n", Reply(550, ("?[31mred",))),  # no escape reaches a terminal or a log
        ("550 größe\r\n".encode(), Reply(550, ("größe",))),
        (b"550 \xff\r\n", Reply(550, ("\N{REPLACEMENT CHARACTER}",))),
    ],
)
def test_a_whole_reply_is_read(octets, reply):
    """A reply is its code and the text of its lines."""
    assert ReplyReader().feed(octets) == [reply]


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"99 x\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"250_x\r\n",
        b"\r\n",
        b"250-one\r\n550 two\r\n",  # RFC 5321 section 4.2.1: one code
        b"HTTP/1.1 400 Bad Request\r\n",
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"x" * (MAX_LINE + 1),
        b"250-more\r\n" * (MAX_REPLY // 8 + 1),
        b"250 unasked\r\n" * 300,
    ],
)
def test_what_is_no_reply_is_refused(octets):
    """Garbage, a changing code, and whatever does not end, raise NoReply."""
    with pytest.raises(NoReply):
        ReplyReader().feed(octets)


@given(st.lists(st.tuples(st.integers(200, 599), st.text("abc 5.", max_size=20)), max_size=5), st.data())
def test_replies_do_not_depend_on_how_they_are_cut(replies, data):
    """However TCP cuts the stream, the same replies come out."""
    octets = b"".join(f"{code}-first\r\n{code} {text}\r\n".encode() for code, text in replies)
    reader, found = ReplyReader(), []
    while octets:
        size = data.draw(st.integers(1, len(octets)))
        found += reader.feed(octets[:size])
        octets = octets[size:]
    assert found == [Reply(code, ("first", text)) for code, text in replies]
    assert not reader.midway


@given(st.binary(max_size=5000))
@example(b"3\n")
@example(b"25 ok\r\n")
def test_any_octets_end_in_replies_or_no_reply(octets):
    """Whatever a server sends, nothing but NoReply is raised, and no text has a control character."""
    try:
        replies = ReplyReader().feed(octets)
    except NoReply:
        return
    assert all(200 <= reply.code < 600 and reply.text.isprintable() for reply in replies)
