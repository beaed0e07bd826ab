import pytest

from tests.unit.smtp.conftest import Opener
from tests.unit.smtp.dialogue import MAIL, Dialogue, Place

# Sequences that some server somewhere took for the end of data: the nine classic ones of 2023, then their kin.
FALSE_ENDS = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\n\r.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n\n.\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\n"[:-1] + b"\r\n",  # <CRLF>.<CR><CRLF>
    b"\0\r\n.\n\r\n",
    b"\r\0\n.\r\n",
    b"\n\n.\n\n",
    b"\x0b.\r\n\n",
]
SMUGGLED = (
    b"MAIL FROM:<boss@sender.example>\r\nRCPT TO:<victim@dest.example>\r\nDATA\r\n"
    b"From: boss@sender.example\r\n\r\nPay at once.\r\n"
)


@pytest.mark.parametrize("end", FALSE_ENDS)
async def test_nothing_but_crlf_dot_crlf_ends_the_data(place: Place, client: Dialogue, end: bytes):
    """A false end neither ends the data nor goes on to a next hop that might take it for one: 550 5.6.11."""
    await client.to_data()
    assert (await client.say(MAIL + end + SMUGGLED + b".\r\n")).startswith("550 5.6.11 ")
    assert place.acceptor.taken == []
    assert (await client.say(b"NOOP\r\n")).startswith("250 "), "the session is in step"


@pytest.mark.parametrize("end", [end for end in FALSE_ENDS if b"\0" not in end])
async def test_normalised_content_smuggles_nothing(open_place: Opener, end: bytes):
    """With smtp_bare_newline=normalise a false end is text of the one message, in lines that end with CRLF."""
    place = await open_place(smtp_bare_newline="normalise")
    async with await place.client() as client:
        await client.log_in()
        await client.to_data()
        assert (await client.say(MAIL + end + SMUGGLED + b".\r\n")).startswith("250 ")
    (taken,) = place.acceptor.taken
    assert b"Pay at once." in taken.content
    assert taken.content.count(b"\r\n") == taken.content.count(b"\n") == taken.content.count(b"\r")


async def test_dots_and_octets_arrive_as_they_were_sent(place: Place, client: Dialogue):
    """8-bit content, stuffed dots and odd characters are the same octets on our side."""
    body = b"\xff\xfe\x80\r\n.\r\n..x\r\n\x0b\x0c\x1b\r\n" + bytes(range(14, 256)) + b"\r\n\r\n"
    mail = b"Date: x\r\nMessage-ID: <1@x>\r\nFrom: a@b.example\r\n\r\n" + body
    await client.to_data()
    wire = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in mail.split(b"\r\n"))
    assert (await client.say(wire + b".\r\n")).startswith("250 2.0.0 Ok: queued as ")
    assert place.acceptor.taken[0].content == mail
