import asyncio

import pytest

from outbox.errors import Full, KeyUnknown, Unavailable
from outbox.message import Recipient
from tests.unit.smtp.conftest import Opener
from tests.unit.smtp.dialogue import MAIL, TOKEN, Dialogue, Place, plain

KEYED = b"Resend-Idempotency-Key: order-17\r\n" + MAIL


async def test_ehlo_offers_auth_only_under_tls(place: Place):
    """In the clear STARTTLS is on offer and AUTH is not; under TLS it is the other way round."""
    async with await place.plain_client() as client:
        assert await client.reply() == "220 mail.test.example ESMTP Nightmail"
        offers = (await client.say(b"EHLO me\r\n")).splitlines()
        assert offers[0] == "250-mail.test.example"
        assert {line[4:] for line in offers[1:]} == {
            "PIPELINING",
            f"SIZE {place.settings.max_message_bytes}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "STARTTLS",
        }
    async with await place.client() as client:
        await client.reply()
        offers = (await client.say(b"EHLO me\r\n")).splitlines()
        assert "250-AUTH PLAIN LOGIN" in offers
        assert "250-STARTTLS" not in offers


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([b"MAIL FROM:<a@b.example>"], "530 5.7.0"),
        ([b"EHLO me", plain(TOKEN).strip()], "538 5.7.11"),
        ([b"EHLO me", b"RCPT TO:<a@b.example>"], "530 5.7.0"),
        ([b"EHLO me", b"DATA"], "530 5.7.0"),
        ([b"STARTTLS now"], "501 5.5.4"),
        ([b"HELO"], "501 5.5.4"),
        ([b"HELO me"], "250 mail"),
        ([b"NOOP anything"], "250 2.0.0"),
        ([b"noop"], "250 2.0.0"),
        ([b"RSET"], "250 2.0.0"),
        ([b"RSET x"], "501 5.5.4"),
        ([b"VRFY someone"], "252 2."),
        ([b"EXPN list"], "502 5.5.1"),
        ([b"HELP"], "502 5.5.1"),
        ([b""], "500 5.5.2"),
        ([b"BDAT 5 LAST"], "500 5.5.2"),
        ([b"NOOP \xff\xfe"], "500 5.5.2"),
        ([b"NOOP " + b"x" * 2_000], "500 5.5.2"),
        ([b"GET / HTTP/1.1"], "500 5.5.2"),
        ([b"QUIT"], "221 2.0.0"),
    ],
)
async def test_replies_in_the_clear(place: Place, lines: list[bytes], reply: str):
    """Before TLS nothing is done for a client but to greet it and to say no, with codes of RFC 5321 and 3463."""
    async with await place.plain_client() as client:
        await client.reply()
        for line in lines:
            answer = await client.say(line + b"\r\n")
        assert answer.startswith(reply)


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([b"STARTTLS"], "503 5.5.1"),
        ([plain(TOKEN).strip()], "503 5.5.1"),  # AUTH once
        ([b"RCPT TO:<a@b.example>"], "503 5.5.1"),
        ([b"DATA"], "503 5.5.1"),
        ([b"MAIL FROM:<a@b.example>", b"MAIL FROM:<a@b.example>"], "503 5.5.1"),
        ([b"MAIL FROM:<>", b"MAIL FROM:<>"], "503 5.5.1"),  # the null path is a path
        ([b"MAIL FROM:<a@b.example>", b"DATA"], "554 5.5.1"),
        ([b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>", b"DATA x"], "501 5.5.4"),
        ([b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>", b"RSET", b"DATA"], "503 5.5.1"),
        ([b"MAIL FROM:<a@b.example>", b"RCPT TO:<c@d.example>", b"EHLO me", b"DATA"], "503 5.5.1"),
        ([b"MAIL FROM:<a@b.example> SIZE=41943041"], "552 5.3.4"),
        ([b"MAIL FROM:<a@b.example> SIZE=41943040"], "250 2.1.0"),
        ([b"MAIL FROM:<\xc3\xbc@b.example>"], "553 5.6.7"),
        ([b"MAIL FROM:<a@b.example>", b"RCPT TO:<\xc3\xbc@b.example>"], "553 5.6.7"),
        ([b"MAIL FROM:<a@b.example> SMTPUTF8", b"RCPT TO:<\xc3\xbc@b.example>"], "250 2.1.5"),
    ],
)
async def test_replies_to_a_client_that_logged_in(client: Dialogue, lines: list[bytes], reply: str):
    """The transaction has one order, and each step out of it one reply."""
    for line in lines:
        answer = await client.say(line + b"\r\n")
    assert answer.startswith(reply)


async def test_the_envelope_is_taken_as_given(place: Place, client: Dialogue):
    """The null reverse-path is '', addresses keep their letters, and one named twice is one."""
    await client.say(b"MAIL FROM:<> SMTPUTF8 BODY=8BITMIME\r\n")
    for address in ("Bob@Dest.example", "ü@bücher.example", "Bob@Dest.example"):
        assert await client.say(f"RCPT TO:<{address}>\r\n".encode()) == "250 2.1.5 Ok"
    await client.say(b"DATA\r\n")
    await client.say(MAIL + b".\r\n")
    message = place.acceptor.taken[0].message
    assert message.reverse_path == ""
    assert message.recipients == (Recipient("Bob@Dest.example", "envelope"), Recipient("ü@bücher.example", "envelope"))
    assert message.smtputf8


async def test_pipelined_commands_are_answered_in_order(place: Place, client: Dialogue):
    """RFC 2920: whole transactions may come in one piece, and nothing is lost between them."""
    begin = b"MAIL FROM:<ann@sender.example>\r\nRCPT TO:<bob@dest.example>\r\nRCPT TO:<>\r\nDATA\r\n"
    await client.send((begin + MAIL + b".\r\n") * 3 + b"NOOP\r\nQUIT\r\n")
    codes = [(await client.reply())[:3] for _ in range(17)]
    assert codes == ["250", "250", "553", "354", "250"] * 3 + ["250", "221"]
    assert await client.is_closed()
    assert len({taken.message.id for taken in place.acceptor.taken}) == 3


async def test_recipients_are_limited(open_place: Opener):
    """Beyond max_recipients the reply is 452 4.5.3 (RFC 5321 section 4.5.3.1.10), and the others stand."""
    place = await open_place(max_recipients=2)
    async with await place.client() as client:
        await client.log_in()
        await client.say(b"MAIL FROM:<a@b.example>\r\n")
        replies = [await client.say(b"RCPT TO:<r%d@b.example>\r\n" % n) for n in range(3)]
        assert [reply[:9] for reply in replies] == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]
        await client.say(b"DATA\r\n")
        assert (await client.say(MAIL + b".\r\n")).startswith("250 ")
    assert len(place.acceptor.taken[0].message.recipients) == 2


async def test_surplus_recipients_do_not_cost_the_others_their_mail(place: Place, client: Dialogue):
    """A list that is pipelined whole goes to as many as a message may have; each of the rest hears 452 4.5.3."""
    most = place.settings.max_recipients
    rcpts = b"".join(b"RCPT TO:<r%d@b.example>\r\n" % n for n in range(most + 1_000))
    await client.send(b"MAIL FROM:<a@b.example>\r\n" + rcpts + b"DATA\r\n")
    assert (await client.reply()).startswith("250 2.1.0")
    replies = [(await client.reply())[:9] for _ in range(most + 1_000)]
    assert replies == ["250 2.1.5"] * most + ["452 4.5.3"] * 1_000
    assert (await client.reply()).startswith("354 ")
    assert (await client.say(MAIL + b".\r\n")).startswith("250 ")
    assert len(place.acceptor.taken[0].message.recipients) == most


async def test_what_is_pipelined_behind_a_postponed_mail_is_postponed(place: Place, client: Dialogue):
    """A client that is asked to wait at MAIL hears nothing permanent, and is not cut off however often it tries."""
    place.acceptor.full = Full("full")
    for _ in range(30):
        await client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
        assert [(await client.reply())[:9] for _ in range(3)] == ["452 4.3.1", "451 4.5.0", "451 4.5.0"]
    place.acceptor.full = None
    await client.to_data()
    assert (await client.say(MAIL + b".\r\n")).startswith("250 ")


@pytest.mark.parametrize("line", [b"RSET", b"EHLO me", b"MAIL FROM:a@b.example"])
async def test_a_postponed_mail_is_forgotten(place: Place, client: Dialogue, line: bytes):
    """What begins anew ends the postponement: RCPT without MAIL is out of order again."""
    place.acceptor.full = Full("full")
    assert (await client.say(b"MAIL FROM:<a@b.example>\r\n")).startswith("452 ")
    await client.say(line + b"\r\n")
    assert (await client.say(b"RCPT TO:<c@d.example>\r\n")).startswith("503 5.5.1 ")


async def test_messages_are_limited_in_size(open_place: Opener):
    """Too large a message is refused with 552 5.3.4 after its dot, and the session goes on."""
    place = await open_place(max_message_bytes=100_000)
    async with await place.client() as client:
        await client.log_in()
        await client.to_data()
        reply = await client.say(MAIL + b"x" * 90_000 + b"\r\n" + b"y" * 90_000 + b"\r\n.\r\n")
        assert reply.startswith("552 5.3.4 ")
        await client.to_data()
        assert (await client.say(MAIL + b"x" * 90_000 + b"\r\n.\r\n")).startswith("250 ")


async def test_the_rate_is_the_keys(open_place: Opener):
    """More messages in one second than the key may send get 450 4.7.1 at MAIL."""
    place = await open_place(rate_limit=10_000)
    place.policy.change_key(rate_limit=1)
    async with await place.client() as client:
        await client.log_in()
        replies = []
        for _ in range(3):  # three messages touch at most two one-second windows of one each
            replies.append((await client.say(b"MAIL FROM:<a@b.example>\r\n"))[:9])
            await client.say(b"RSET\r\n")
        assert "450 4.7.1" in replies


@pytest.mark.parametrize(
    ("fault", "reply"),
    [
        (Unavailable("redis at 10.1.2.3 is away"), "451 4.3.0"),
        (RuntimeError("a secret of ours"), "451 4.3.0"),
        (OSError("disk"), "451 4.3.0"),
        (ConnectionResetError("redis"), "451 4.3.0"),
    ],
)
async def test_our_faults_are_temporary_and_tell_nothing(place: Place, client: Dialogue, fault: Exception, reply: str):
    """Whatever breaks on our side, the client is told to come again, and nothing else."""
    place.acceptor.fault = fault
    await client.to_data()
    answer = await client.say(MAIL + b".\r\n")
    assert answer == f"{reply} Temporary fault on our side, try again later"
    place.acceptor.fault = None
    await client.to_data()
    assert (await client.say(MAIL + b".\r\n")).startswith("250 ")


async def test_senders_are_checked_after_data(place: Place, client: Dialogue):
    """An unverified domain, or one that the key is not for, is refused for good with 550 5.7.1."""
    place.policy.verified = {"sender.example"}
    await client.to_data()
    assert (await client.say(MAIL + b".\r\n")).startswith("250 ")
    await client.to_data()
    assert (
        await client.say(MAIL.replace(b"@sender.example", b"@other.example") + b".\r\n")
        == "550 5.7.1 The other.example domain is not verified"
    )
    place.policy.change_key(domain="another.example")
    await client.to_data()
    assert (await client.say(MAIL + b".\r\n")).startswith("550 5.7.1 This API key may not send from sender.example")
    assert len(place.acceptor.taken) == 1


async def test_reserved_recipients_are_refused_in_production(open_place: Opener):
    """With refuse_reserved_recipients mail to example.com and the like is refused after DATA, as Resend does."""
    place = await open_place(refuse_reserved_recipients=True)
    async with await place.client() as client:
        await client.log_in()
        await client.to_data(recipient=b"bob@mail.Example.com")
        assert (await client.say(MAIL + b".\r\n")).startswith("550 5.1.2 ")
        await client.to_data(recipient=b"bob@resend.dev")
        assert (await client.say(MAIL + b".\r\n")).startswith("250 ")


async def test_an_idempotency_key_sends_once(place: Place, client: Dialogue):
    """The same message under the same key is answered with the same id and sent once; another one is refused."""
    replies = []
    for mail in (KEYED, b"Date: Sat, 21 Nov 2026 20:17:00 +0000\r\n" + KEYED, KEYED + b"Another.\r\n"):
        await client.to_data()
        replies.append(await client.say(mail + b".\r\n"))
    assert replies[0] == replies[1]
    assert replies[0].startswith("250 ")
    assert replies[2].startswith("550 5.7.0 ")
    assert len(place.acceptor.taken) == 1
    assert b"order-17" not in place.acceptor.taken[0].content


async def test_a_revoked_key_ends_on_open_connections(place: Place, client: Dialogue):
    """The key is looked up again at every MAIL; when nobody can tell, what was known stands."""
    place.policy.fault = Unavailable("blind")
    assert (await client.say(b"MAIL FROM:<a@b.example>\r\n")).startswith("250 ")
    await client.say(b"RSET\r\n")
    place.policy.fault = KeyUnknown()
    assert (await client.say(b"MAIL FROM:<a@b.example>\r\n")).startswith("530 5.7.0 ")


async def test_junk_is_not_listened_to_for_long(place: Place):
    """After many errors without a message the connection is closed with 421 4.7.0."""
    async with await place.plain_client() as client:
        await client.reply()
        await client.send(b"junk\r\n" * 30)
        replies = [await client.reply() for _ in range(21)]
        assert {reply[:9] for reply in replies[:20]} == {"500 5.5.2"}
        assert replies[20] == "421 4.7.0 Too many errors"
        assert await client.is_closed()


async def test_idle_talk_is_not_listened_to_for_ever(place: Place, client: Dialogue):
    """So it is after hundreds of harmless commands without a message."""
    await client.send(b"NOOP\r\n" * 400)
    replies = [await client.reply() for _ in range(299)]
    assert {reply[:3] for reply in replies} == {"250", "421"}
    assert replies[-1].startswith("421 4.7.0 ")


async def test_recipients_are_not_named_for_ever(place: Place, client: Dialogue):
    """Nor is who names recipients and never sends."""
    await client.send(b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<c@d.example>\r\n" * 2_000)
    replies = [(await client.reply())[:3] for _ in range(place.settings.max_recipients + 1_002)]
    assert replies == ["250"] * (place.settings.max_recipients + 1_001) + ["421"]


async def test_an_endless_command_line_is_cut_off(place: Place):
    """A line beyond every bound ends the connection; it is never kept in memory."""
    async with await place.plain_client() as client:
        await client.reply()
        await client.send(b"x" * 70_000)
        assert (await client.reply()).startswith("500 5.5.6 ")
        assert await client.is_closed()


async def test_starttls_drops_what_was_sent_before_it(place: Place):
    """Commands injected in the clear are not obeyed under TLS (CVE-2011-0411), and the greeting is forgotten."""
    async with await place.plain_client() as client:
        await client.reply()
        await client.say(b"EHLO me\r\n")
        assert (await client.say(b"STARTTLS\r\nEHLO injected\r\nNOOP\r\n")).startswith("220 ")
        await client.writer.start_tls(place.trust, server_hostname="localhost")
        assert (await client.say(plain(TOKEN))).startswith("503 5.5.1 EHLO first")
        assert (await client.say(b"EHLO me\r\n")).startswith("250-")
        assert (await client.say(plain(TOKEN))).startswith("235 ")


async def test_a_failed_handshake_ends_the_connection(place: Place):
    """Who does not speak TLS after STARTTLS is dropped, and the server goes on."""
    async with await place.plain_client() as client:
        await client.reply()
        await client.say(b"STARTTLS\r\n")
        await client.send(b"NOOP\r\n" * 10)
        assert "250" not in (await asyncio.wait_for(client.reader.read(), 10)).decode("latin-1")
    async with await Dialogue.open(place.server.smtps_port) as client:
        await client.send(b"EHLO me\r\n" * 10)
        await asyncio.wait_for(client.reader.read(), 10)
    async with await place.client() as client:
        await client.log_in()
