import logging
from base64 import b64encode

import pytest

from outbox.errors import Unavailable
from tests.unit.smtp.conftest import Opener
from tests.unit.smtp.dialogue import MAIL, TOKEN, Dialogue, Place, plain

SECRET = b64encode(TOKEN.encode())
USER = b64encode(b"resend")
PLAIN = plain(TOKEN).split()[2]


@pytest.mark.parametrize(
    ("lines", "replies"),
    [
        ([b"AUTH PLAIN " + PLAIN], ["235 2.7.0"]),
        ([b"auth plain " + PLAIN], ["235 2.7.0"]),
        ([b"AUTH PLAIN", PLAIN], ["334 ", "235 2.7.0"]),
        ([b"AUTH PLAIN " + b64encode(b"other\0anyone\0" + TOKEN.encode())], ["235 2.7.0"]),  # any name is taken
        ([b"AUTH LOGIN", USER, SECRET], ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0"]),
        ([b"AUTH LOGIN " + USER, SECRET], ["334 UGFzc3dvcmQ6", "235 2.7.0"]),
        ([b"AUTH LOGIN", b"", SECRET], ["334 ", "334 ", "235 2.7.0"]),
        ([b"AUTH PLAIN", b"*"], ["334 ", "501 5.7.0"]),
        ([b"AUTH LOGIN", b"*"], ["334 ", "501 5.7.0"]),
        ([b"AUTH LOGIN", USER, b"*"], ["334 ", "334 ", "501 5.7.0"]),
        ([b"AUTH PLAIN ="], ["501 5.5.2"]),
        ([b"AUTH PLAIN !!!"], ["501 5.5.2"]),
        ([b"AUTH PLAIN \xc3\xbc"], ["501 5.5.2"]),
        ([b"AUTH PLAIN " + b64encode(b"no nul")], ["501 5.5.2"]),
        ([b"AUTH PLAIN " + b64encode(b"\0resend\0re_wrong")], ["535 5.7.8"]),
        ([b"AUTH PLAIN " + b64encode(b"\0resend\0\xff\xfe")], ["535 5.7.8"]),
        ([b"AUTH LOGIN", USER, b64encode(b"re_wrong")], ["334 ", "334 ", "535 5.7.8"]),
        # All lines of a dialogue are taken before it fails: none is left over to be read as a command.
        ([b"AUTH LOGIN", b"not base64", SECRET], ["334 ", "334 ", "501 5.5.2"]),
        ([b"AUTH LOGIN !!!", SECRET], ["334 ", "501 5.5.2"]),
        ([b"AUTH CRAM-MD5"], ["504 5.5.4"]),
        ([b"AUTH"], ["501 5.5.4"]),
    ],
)
async def test_auth_dialogues(place: Place, lines: list[bytes], replies: list[str]):
    """PLAIN and LOGIN in all their forms; each dialogue leaves the session in step."""
    async with await place.client() as client:
        await client.reply()
        await client.say(b"EHLO me\r\n")
        for line, reply in zip(lines, replies, strict=True):
            assert (await client.say(line + b"\r\n")).startswith(reply)
        assert await client.say(b"NOOP\r\n") == "250 2.0.0 Ok"


async def test_auth_needs_ehlo(place: Place):
    """AUTH is an extension: without EHLO it was not offered."""
    async with await place.client() as client:
        await client.reply()
        assert (await client.say(plain(TOKEN))).startswith("503 5.5.1")
        await client.say(b"HELO me\r\n")
        assert (await client.say(plain(TOKEN))).startswith("503 5.5.1")


async def test_who_did_not_log_in_sends_nothing(place: Place):
    """Without AUTH, MAIL, RCPT and DATA are 530 5.7.0, also after a failed one."""
    async with await place.client() as client:
        await client.reply()
        await client.say(b"EHLO me\r\n")
        await client.say(plain("re_wrong"))
        for line in (b"MAIL FROM:<a@b.example>", b"RCPT TO:<a@b.example>", b"DATA"):
            assert (await client.say(line + b"\r\n")).startswith("530 5.7.0 ")


async def test_blindness_is_temporary(place: Place):
    """When keys cannot be looked up the reply is 454 4.7.0, however often, and never 535."""
    place.policy.fault = Unavailable("blind")
    async with await place.client() as client:
        await client.reply()
        await client.say(b"EHLO me\r\n")
        for _ in range(5):
            assert (await client.say(plain(TOKEN))).startswith("454 4.7.0 ")
        place.policy.fault = None
        assert (await client.say(plain(TOKEN))).startswith("235 ")


async def test_guessing_ends_the_connection(open_place: Opener):
    """After smtp_auth_tries failures the next AUTH is answered 421 4.7.0."""
    place = await open_place(smtp_auth_tries=2)
    async with await place.client() as client:
        await client.reply()
        await client.say(b"EHLO me\r\n")
        assert (await client.say(plain("re_wrong"))).startswith("535 ")
        assert (await client.say(b"AUTH PLAIN !!!\r\n")).startswith("501 ")
        assert (await client.say(plain(TOKEN))).startswith("421 4.7.0 ")
        assert await client.is_closed()


async def test_no_secret_is_logged_or_echoed(
    place: Place, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    """Neither a good password nor a bad one, nor one sent out of turn, is in any log or reply."""
    caplog.set_level(logging.DEBUG)
    heard = []
    async with await place.client() as client:
        await client.reply()
        heard.append(await client.say(SECRET + b"\r\n"))
        heard.append(await client.say(b"EHLO me\r\n"))
        lines = (b"AUTH LOGIN", b"bad base64", SECRET, b"AUTH LOGIN", SECRET, b64encode(b"re_wrong"), SECRET)
        heard += [await client.say(line + b"\r\n") for line in lines]
        heard.append(await client.say(plain(TOKEN)))
        await client.to_data()
        heard.append(await client.say(MAIL + b".\r\n"))
    printed = capsys.readouterr()
    text = "\n".join([*heard, caplog.text, printed.out, printed.err])
    for secret in (SECRET.decode(), TOKEN, PLAIN.decode(), b64encode(b"re_wrong").decode()):
        assert secret not in text


async def test_a_dialogue_may_be_sent_ahead(place: Place):
    """A client that does not wait for challenges is understood."""
    async with await place.client() as client:
        await client.reply()
        await client.send(b"EHLO me\r\nAUTH LOGIN\r\n" + USER + b"\r\n" + SECRET + b"\r\nNOOP\r\n")
        assert [(await client.reply())[:3] for _ in range(5)] == ["250", "334", "334", "235", "250"]


async def test_long_auth_lines_are_bounded(place: Place, client: Dialogue):
    """RFC 4954 section 4: lines up to 12,288 octets, and no longer."""
    async with await place.client() as other:
        await other.reply()
        await other.say(b"EHLO me\r\n")
        assert (await other.say(b"AUTH PLAIN " + b"A" * 12_000 + b"\r\n")).startswith("501 5.5.2")
        assert (await other.say(b"AUTH PLAIN " + b"A" * 12_400 + b"\r\n")).startswith("500 5.5.6")
        assert await other.is_closed()
