import asyncio
import ssl

import pytest

from runtime.settings import Settings
from tests.fixtures.next_hop import NextHop
from worker import errors
from worker.dialer import Dialer
from worker.hop import Hop, Tls
from worker.pool import IDLE_SECONDS, Pool
from worker.routes import Fixed, from_settings


class Route:
    """Several hops for every lane."""

    name = "mx"

    def __init__(self, *hops):
        self._hops = hops

    async def hops(self, domain):
        return self._hops


async def test_fixed_routes_come_from_settings(tmp_path):
    """The mailbox is plain and local; a smarthost has TLS and credentials."""
    mailbox = from_settings(Settings(route="mailbox", mailbox_smtp_port=2525))
    assert await mailbox.hops("one.test") == (Hop("mailbox", 2525, "127.0.0.1"),)
    smarthost = from_settings(
        Settings(
            route="smarthost",
            smarthost_host="relay.test",
            smarthost_user="me",
            smarthost_password="secret",
            smarthost_tls="implicit",
        )
    )
    assert await smarthost.hops("one.test") == (Hop("relay.test", 587, "", Tls.IMPLICIT, "me", "secret"),)
    assert (mailbox.name, smarthost.name) == ("mailbox", "smarthost")


async def test_the_next_host_is_tried(opener):
    """A host that refuses the connection, and one that greets with 4yz, are passed over."""
    async with NextHop() as closed:
        nowhere = closed.hop()
    async with NextHop({"greeting": "421 4.3.2 busy"}) as busy, NextHop() as good:
        dialer = Dialer(Route(nowhere, busy.hop(), good.hop()), opener, Pool(most=1))
        client, steps = await dialer.connect("one.test")
        assert client.hop == good.hop()
        assert [step for step, _ in steps] == ["dns", "connect", "hello"]
        client.abort()


async def test_when_none_works_the_last_error_counts(opener):
    """A lane without a working hop raises."""
    async with NextHop({"greeting": "554 5.7.1 no"}) as hop:
        with pytest.raises(errors.HopRefused):
            await Dialer(Route(hop.hop()), opener, Pool(most=1)).connect("one.test")


async def test_a_broken_starttls_of_a_mail_host_falls_back_to_plaintext(opener):
    """Opportunistic TLS never keeps mail from a host whose TLS is broken; required TLS does."""
    broken = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # no certificate: every handshake fails
    async with NextHop(tls=broken) as hop:
        client, _ = await Dialer(Fixed("mx", hop.hop(Tls.OPPORTUNISTIC)), opener, Pool(most=1)).connect("one.test")
        assert client.tls == ""
        client.abort()
        with pytest.raises(errors.TlsFailed):
            await Dialer(Fixed("smarthost", hop.hop(Tls.STARTTLS)), opener, Pool(most=1)).connect("one.test")


async def test_idle_connections_are_shared_between_lanes(opener):
    """A connection that was given back serves the next lane with the same hop, unless a fresh one is wanted."""
    async with NextHop() as hop:
        dialer = Dialer(Fixed("mailbox", hop.hop()), opener, Pool(most=2))
        first, _ = await dialer.connect("one.test")
        assert dialer.pool.give(first) is None
        second, steps = await dialer.connect("two.test")
        assert second is first
        assert steps == []
        dialer.pool.give(second)
        third, _ = await dialer.connect("two.test", fresh=True)
        assert third is not first
        third.abort()
        for client in dialer.pool.empty():
            client.abort()


async def test_the_pool_is_bounded_in_number_and_time(opener):
    """One too many is handed out for goodbye, and so is what idles too long or has died."""
    now = [0.0]
    async with NextHop() as hop:
        pool = Pool(most=2, clock=lambda: now[0])
        clients = [(await opener.open(hop.hop()))[0] for _ in range(3)]
        assert [pool.give(client) for client in clients] == [None, None, clients[0]]
        clients[2].abort()
        assert pool.stale() == [clients[2]]
        now[0] = IDLE_SECONDS
        assert pool.stale() == [clients[1]]
        assert len(pool) == 0
        for client in clients:
            client.abort()
        await asyncio.sleep(0)
