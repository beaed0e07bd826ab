import asyncio
import base64
from dataclasses import replace

import pytest

from tests.fixtures.next_hop import CLOSE, SILENCE, NextHop
from worker import errors
from worker.envelope import Envelope
from worker.hop import Hop, Tls
from worker.session import Opener, TlsContexts

from .conftest import QUICK

MAIL = Envelope("from@ours.test", ("a@localhost",), b"x\r\n")
LOGIN = {"user": "me", "password": "secret"}


def encoded(text):
    return base64.b64encode(text.encode()).decode()


async def deliver(opener, hop):
    client, steps = await opener.open(hop)
    transaction = await client.send(MAIL, before_dot=lambda: True)
    await client.quit()
    assert transaction.dot.code == 250
    return client, [step for step, _ in steps]


async def test_session_is_opened_and_closed(opener):
    """Greeting, EHLO with our name, the mail, QUIT."""
    async with NextHop() as hop:
        client, steps = await deliver(opener, hop.hop())
    assert hop.lines[0] == "EHLO client.test"
    assert hop.lines[-1] == "QUIT"
    assert client.peer == f"localhost[127.0.0.1]:{hop.port}"
    assert (client.tls, steps) == ("", ["connect", "hello"])


async def test_an_old_server_gets_helo(opener):
    """EHLO refused with 5yz is followed by HELO, and no extension is used."""
    async with NextHop({"EHLO": "502 5.5.1 what?"}) as hop:
        await deliver(opener, hop.hop())
    assert hop.lines[:3] == ["EHLO client.test", "HELO client.test", "MAIL FROM:<from@ours.test>"]


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"greeting": "554 5.7.1 go away"}, errors.HopRefused),
        ({"greeting": "450 4.3.2 later"}, errors.HopRefused),
        ({"greeting": "421 4.3.2 too many connections"}, errors.HopRefused),
        ({"greeting": CLOSE}, errors.ConnectionLost),
        ({"greeting": "SSH-2.0-OpenSSH_9.2"}, errors.Garbled),
        ({"EHLO": "450 4.3.2 later"}, errors.HopRefused),
        ({"EHLO": "550 no", "HELO": "550 no"}, errors.HopRefused),
        ({"EHLO": "421 4.3.2 no"}, errors.ConnectionLost),
        ({"EHLO": CLOSE}, errors.ConnectionLost),
    ],
)
async def test_a_hop_that_does_not_talk_to_us(opener, answers, error):
    """Whatever goes wrong before MAIL is the hop's, and carries its words."""
    async with NextHop(answers) as hop:
        with pytest.raises(error):
            await opener.open(hop.hop())


async def test_nobody_listens(opener):
    """A refused connection is a ConnectFailed."""
    async with NextHop() as hop:
        place = hop.hop()
    with pytest.raises(errors.ConnectFailed):
        await opener.open(place)
    with pytest.raises(errors.ConnectFailed):
        await opener.open(Hop("no-such-host.invalid", 25))


@pytest.mark.parametrize(("verb", "step"), [("greeting", "greeting"), ("EHLO", "hello")])
async def test_a_silent_hop(trusting, verb, step):
    """Silence at the start ends in StepTimeout."""
    opener = Opener("client.test", tls=trusting, timeouts=replace(QUICK, **{step: 0.05}))
    async with NextHop({verb: SILENCE}) as hop:
        with pytest.raises(errors.StepTimeout):
            await opener.open(hop.hop())


async def test_verified_starttls(opener, server_tls):
    """With STARTTLS the mail is encrypted, and what the server offered in the clear is asked again."""
    async with NextHop(tls=server_tls) as hop:
        client, steps = await deliver(opener, hop.hop(Tls.STARTTLS))
    assert client.tls.startswith("TLSv1")
    assert steps == ["connect", "hello", "tls"]
    assert hop.lines.count("EHLO client.test") == 2


async def test_untrusted_certificate(server_tls):
    """A certificate that nobody vouches for is refused where TLS is required, and taken where it is opportunistic."""
    opener = Opener("client.test", tls=TlsContexts.default(), timeouts=QUICK)
    async with NextHop(tls=server_tls) as hop:
        with pytest.raises(errors.TlsFailed):
            await opener.open(hop.hop(Tls.STARTTLS))
        client, _ = await deliver(opener, hop.hop(Tls.OPPORTUNISTIC))
    assert client.tls


async def test_required_tls_is_never_given_up(opener, server_tls):
    """No STARTTLS, a refused one, and a broken handshake: no mail in the clear where TLS is required."""
    async with NextHop() as bare, NextHop({"STARTTLS": "454 4.7.0 later"}, tls=server_tls) as refusing:
        for hop in (bare, refusing):
            with pytest.raises(errors.TlsFailed):
                await opener.open(hop.hop(Tls.STARTTLS))
    assert not any(line.startswith("MAIL") for line in bare.lines + refusing.lines)


async def test_words_injected_before_the_handshake_are_thrown_away(opener, server_tls):
    """Replies that an attacker put behind the 220 of STARTTLS in the clear are not taken for replies under TLS."""
    hop = NextHop({"STARTTLS": "220 go ahead\r\n250-evil\r\n250 AUTH PLAIN\r\n250 ok\r\n"}, tls=server_tls)
    async with hop:
        client, _ = await deliver(opener, hop.hop(Tls.STARTTLS))
    assert client.tls
    assert len(hop.received) == 1


async def test_implicit_tls(opener, server_tls):
    """TLS from the first octet."""
    hop = NextHop()

    async def serve(reader, writer):
        await hop._serve(reader, writer)

    async with hop:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_tls)
        place = Hop("localhost", server.sockets[0].getsockname()[1], "127.0.0.1", Tls.IMPLICIT)
        client, steps = await deliver(opener, place)
        server.close()
    assert client.tls
    assert steps == ["connect", "tls", "hello"]


@pytest.mark.parametrize(
    ("mechanisms", "lines"),
    [
        ("AUTH PLAIN LOGIN", ["AUTH PLAIN " + encoded("\0me\0secret")]),
        ("AUTH LOGIN", ["AUTH LOGIN", encoded("me"), encoded("secret")]),
    ],
)
async def test_auth(opener, server_tls, mechanisms, lines):
    """PLAIN if offered, else LOGIN."""
    async with NextHop(features=(mechanisms,), tls=server_tls) as hop:
        _, steps = await deliver(opener, hop.hop(Tls.STARTTLS, **LOGIN))
    at = hop.lines.index(lines[0])
    assert hop.lines[at : at + len(lines)] == lines
    assert steps[-1] == "auth"


@pytest.mark.parametrize(
    ("features", "answers"),
    [
        ((), {}),
        (("AUTH CRAM-MD5",), {}),
        (("AUTH PLAIN",), {"AUTH": "535 5.7.8 no"}),
        (("AUTH LOGIN",), {"user": "535 no"}),
    ],
)
async def test_auth_failed(opener, features, answers):
    """Missing mechanisms and refused credentials are an AuthFailed that does not repeat the password."""
    async with NextHop(answers, features=features) as hop:
        with pytest.raises(errors.AuthFailed) as caught:
            await opener.open(hop.hop(**LOGIN))
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(hop.hop(**LOGIN))
