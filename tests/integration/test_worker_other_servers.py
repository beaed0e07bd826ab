"""Delivery to an SMTP server that we did not write: aiosmtpd, which offers no PIPELINING."""

import asyncio

import pytest
from aiosmtpd.smtp import SMTP

from worker.client import Client
from worker.envelope import Envelope
from worker.hop import Hop
from worker.session import Opener, TlsContexts

CONTENT = b"Subject: x\r\n\r\n.hidden\r\n..twice\r\n\r\nend\r\n"


class Keeper:
    """aiosmtpd's handler: keeps what came, and takes no mail for `nobody`."""

    def __init__(self):
        self.kept = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802  (aiosmtpd's name)
        if address.startswith("nobody"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.kept.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 kept"


@pytest.fixture
async def other():
    """A running aiosmtpd: its handler, and a client of ours that is connected to it."""
    keeper = Keeper()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(keeper, hostname="other.test", enable_SMTPUTF8=True, loop=loop), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    client, _ = await Opener("ours.test", tls=TlsContexts.default()).open(Hop("other.test", port, "127.0.0.1"))
    yield keeper, client
    await client.quit()
    server.close()


async def send(client: Client, *recipients: str, smtputf8: bool = False):
    mail = Envelope("from@ours.test", recipients, CONTENT, smtputf8=smtputf8)
    return await client.send(mail, before_dot=lambda: True)


async def test_mail_arrives_octet_for_octet(other):
    """Several messages over one connection, dots and all; the second to an address that needs SMTPUTF8."""
    keeper, client = other
    assert (await send(client, "a@one.test")).dot.code == 250
    assert (await send(client, "jörg@one.test", smtputf8=True)).dot.code == 250
    assert keeper.kept == [
        ("from@ours.test", ["a@one.test"], CONTENT),
        ("from@ours.test", ["jörg@one.test"], CONTENT),
    ]


async def test_one_refused_recipient_keeps_no_other_from_the_mail(other):
    """The refusal is that recipient's alone; after a message that nobody may have, the connection goes on."""
    keeper, client = other
    mixed = await send(client, "nobody@one.test", "a@one.test")
    assert [reply.code for reply in mixed.rcpts] == [550, 250]
    assert mixed.dot.code == 250
    refused = await send(client, "nobody@one.test")
    assert refused.dot is None
    assert (await send(client, "b@one.test")).dot.code == 250
    assert [recipients for _, recipients, _ in keeper.kept] == [["a@one.test"], ["b@one.test"]]
