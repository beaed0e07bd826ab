"""Clients of trusted networks need neither AUTH nor TLS; all else is asked of them as of everybody."""

import pytest
from structlog.testing import capture_logs

from smtp.trust import TrustedNetworks
from tests.unit.smtp.conftest import Opener
from tests.unit.smtp.dialogue import MAIL, TOKEN, Dialogue, Place, plain

LOOPBACK = "127.0.0.0/8"
ELSEWHERE = "10.0.0.0/8, fd00::/8"


async def greeted(place: Place) -> Dialogue:
    """A client without TLS that said HELO."""
    client = await place.plain_client()
    await client.reply()
    await client.say(b"HELO me\r\n")
    return client


async def test_a_trusted_client_sends_in_the_clear(open_place: Opener):
    """HELO, no AUTH, no TLS: the message is taken, under the network's name."""
    place = await open_place(smtp_trusted_networks=LOOPBACK)
    async with await greeted(place) as client:
        await client.to_data()
        assert (await client.say(MAIL + b".\r\n")).startswith("250 2.0.0 Ok: queued as ")
    assert place.acceptor.taken[0].message.key_id == "network:127.0.0.0/8"


@pytest.mark.parametrize("networks", ["", ELSEWHERE])
async def test_others_have_to_log_in(open_place: Opener, networks: str):
    """Without the setting, and from outside its networks, every command of a transaction is refused."""
    place = await open_place(smtp_trusted_networks=networks)
    async with await greeted(place) as client:
        for line in (b"MAIL FROM:<ann@sender.example>", b"RCPT TO:<bob@dest.example>", b"DATA"):
            assert await client.say(line + b"\r\n") == "530 5.7.0 STARTTLS first"


async def test_a_trusted_client_may_send_only_from_verified_domains(open_place: Opener):
    """Trust replaces the login, not the check of the sender."""
    place = await open_place(smtp_trusted_networks=LOOPBACK)
    place.policy.verified = {"other.example"}
    async with await greeted(place) as client:
        await client.to_data()
        assert (await client.say(MAIL + b".\r\n")).startswith("550 5.7.1 The sender.example domain is not verified")
    assert place.acceptor.taken == []


async def test_a_trusted_network_has_the_default_rate(open_place: Opener):
    """Three messages in at most two one-second windows of one each: one of them gets 450."""
    place = await open_place(smtp_trusted_networks=LOOPBACK, rate_limit=1)
    async with await greeted(place) as client:
        replies = []
        for _ in range(3):
            replies.append(await client.say(b"MAIL FROM:<ann@sender.example>\r\n"))
            await client.say(b"RSET\r\n")
    assert any(reply.startswith("450 4.7.1") for reply in replies)


async def test_a_trusted_client_may_still_log_in(open_place: Opener):
    """Then its mail is its key's."""
    place = await open_place(smtp_trusted_networks=LOOPBACK)
    async with await place.client() as client:
        await client.reply()
        await client.say(b"EHLO me\r\n")
        assert (await client.say(plain(TOKEN))).startswith("235 ")
        await client.to_data()
        await client.say(MAIL + b".\r\n")
    assert place.acceptor.taken[0].message.key_id == place.policy.key.id


async def test_the_log_warns_at_start_when_networks_are_trusted(open_place: Opener):
    """One warning that names them; none when it is off."""
    with capture_logs() as entries:
        await open_place()
        await open_place(smtp_trusted_networks=LOOPBACK)
    (warning,) = [entry for entry in entries if entry["event"] == "submission.trusts_networks"]
    assert warning["log_level"] == "warning"
    assert warning["networks"] == [LOOPBACK]


def test_nobody_is_trusted_by_default():
    """No networks, no key, whatever the address."""
    assert TrustedNetworks(()).key_of("127.0.0.1") is None
