import asyncio
from collections.abc import Callable

import pytest

from nightmail.mailbox.process import listen
from nightmail.mailbox.store import Search, Store

ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "mailbox.sqlite")
    yield store
    store.close()


@pytest.fixture
async def dial(settings, store):
    """Opens connections that have read the banner; each answers `talk(octets, replies)` with reply lines."""
    port_free = settings.model_copy(update={"mailbox_smtp_port": 0, "mailbox_misbehaves": True})
    server = await listen(port_free, store)
    writers = []

    async def dial() -> Callable:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writers.append(writer)

        async def talk(octets: bytes, replies: int = 1) -> list[str]:
            writer.write(octets)
            return [(await reader.readline()).decode().strip() for _ in range(replies)]

        talk.writer = writer
        talk.reader = reader
        assert (await talk(b""))[0].startswith("220 ")
        return talk

    yield dial
    for writer in writers:
        writer.close()
    server.close()


async def test_pipelined_commands_are_answered_in_order_and_the_mail_is_kept(dial, store):
    """A whole transaction in one packet gets its replies in order, and what was sent is what is kept."""
    talk = await dial()
    content = b"Subject: hello\r\nMessage-ID: <1@x>\r\n\r\nfirst\r\n..dots\r\n"
    replies = await talk(b"EHLO x\r\n" + ENVELOPE + b"DATA\r\n", 9)
    assert [reply[:3] for reply in replies] == ["250"] * 8 + ["354"]
    assert (await talk(content + b".\r\nQUIT\r\n", 2)) == ["250 2.0.0 Kept", "221 2.0.0 Bye"]
    summary, kept = store.get(1)
    assert kept == content.replace(b"\r\n..", b"\r\n.")
    assert (summary["reverse_path"], summary["recipients"]) == ("a@example.com", ["b@example.org"])
    assert (summary["subject"], summary["message_id"]) == ("hello", "<1@x>")


async def test_commands_after_the_dot_wait_for_its_reply(dial, store):
    """What is pipelined behind a message is answered after the message's 250, never before."""
    talk = await dial()
    replies = await talk(ENVELOPE + b"DATA\r\n", 3)
    two = b"x\r\n.\r\n" + ENVELOPE + b"DATA\r\n"
    replies = await talk(two, 4)
    assert [reply[:3] for reply in replies] == ["250", "250", "250", "354"]
    assert (await talk(b".\r\n"))[0].startswith("250")
    assert store.count() == {"messages": 2, "unique_message_ids": 1, "recipients": 2}


@pytest.mark.parametrize("size", [1, 7])
async def test_the_final_dot_is_found_however_the_octets_are_cut(dial, store, size):
    """Content that arrives in pieces is put together unchanged; a bare LF dot does not end it."""
    talk = await dial()
    await talk(ENVELOPE + b"DATA\r\n", 3)
    wire = b"Subject: x\r\n\r\none\n.\nstill\r\n..\r\n.\r\n"
    for at in range(0, len(wire), size):
        talk.writer.write(wire[at : at + size])
        await asyncio.sleep(0)
    assert (await talk(b""))[0].startswith("250")
    assert store.get(1)[1] == b"Subject: x\r\n\r\none\n.\nstill\r\n.\r\n"


async def test_a_half_closed_client_still_hears_that_its_mail_is_kept(dial):
    """EOF right behind the dot does not cost the reply."""
    talk = await dial()
    await talk(ENVELOPE + b"DATA\r\n", 3)
    talk.writer.write(b"x\r\n.\r\n")
    talk.writer.write_eof()
    assert (await talk.reader.read()).startswith(b"250 2.0.0 Kept")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"RCPT TO:<b@example.org>\r\n", "503"),
        (b"DATA\r\n", "503"),
        (b"MAIL FROM:a@example.com\r\n", "501"),
        (b"MAIL FROM:<a@example.com> SIZE=999999999\r\n", "552"),
        (b"HELLO\r\n", "500"),
        (b"VRFY a\r\n", "252"),
        (b"x" * 5000 + b"\r\n", "500"),
    ],
)
async def test_what_is_out_of_order_is_refused(dial, command, code):
    """Each wrong command has its code."""
    talk = await dial()
    assert (await talk(command))[0].startswith(code)


async def test_content_over_the_limit_is_refused_and_not_kept(settings, store):
    """A message over the limit is read to its end, refused with 552, and the session goes on."""
    server = await listen(settings.model_copy(update={"mailbox_smtp_port": 0, "max_message_bytes": 1}), store)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(ENVELOPE + b"DATA\r\n" + (b"x" * 998 + b"\r\n") * 3200 + b".\r\nNOOP\r\nQUIT\r\n")
    replies = (await reader.read()).decode().splitlines()
    assert [reply[:3] for reply in replies] == ["220", "250", "250", "354", "552", "250", "221"]
    assert store.find(Search()) == []
    writer.close()
    server.close()


async def test_it_misbehaves_on_order(dial):
    """Recipients `defer...` and `refuse...` get 450 and 550 when the setting asks for it."""
    talk = await dial()
    replies = await talk(b"MAIL FROM:<>\r\nRCPT TO:<defer1@x.org>\r\nRCPT TO:<refuse@x.org>\r\nDATA\r\n", 4)
    assert [reply[:3] for reply in replies] == ["250", "450", "550", "503"]
