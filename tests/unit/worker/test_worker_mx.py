"""Mail hosts, looked up at a real DNS server that says what the test wants."""

import asyncio
from types import SimpleNamespace

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from worker import errors
from worker.hop import Hop, Tls
from worker.mx import FAILURE_TTL, LEAST_TTL, MOST_TTL, NEGATIVE_TTL, MailHost, MailHosts, Mx


class Zone(asyncio.DatagramProtocol):
    """A DNS server: `records[name, type]` is a list of texts, or an rcode; `aliases` are CNAMEs; else NODATA."""

    def __init__(self):
        self.records, self.aliases, self.ttl, self.asked = {}, {}, 300, []

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        target = self.aliases.get(name)
        if target:
            response.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", "CNAME", target + "."))
            name = target
        found = self.records.get((name, kind), self.records.get((name, "*"), []))
        if isinstance(found, list):
            if found:
                response.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", kind, *found))
        elif found is not None:
            response.set_rcode(found)
        if found is not None:
            self.transport.sendto(response.to_wire(), address)


@pytest.fixture
async def dns_server():
    transport, zone = await asyncio.get_running_loop().create_datagram_endpoint(Zone, ("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    now = SimpleNamespace(seconds=1000.0)
    hosts = MailHosts(resolver, shuffle=lambda found: found.reverse(), timeout=0.5, clock=lambda: now.seconds)
    yield SimpleNamespace(zone=zone, hosts=hosts, now=now)
    transport.close()


async def test_hosts_by_preference_then_shuffled(dns_server):
    """Lower preference first, equals in an order that the injected shuffle decides, IPv4 and IPv6."""
    dns_server.zone.records = {
        ("one.test", "MX"): ["20 c.test.", "10 A.test.", "10 b.test."],
        ("a.test", "A"): ["192.0.2.1"],
        ("b.test", "AAAA"): ["2001:db8::2"],
        ("c.test", "A"): ["192.0.2.3"],
    }
    found = await dns_server.hosts.find("one.test")
    assert set(found[:2]) == {MailHost("a.test", "192.0.2.1"), MailHost("b.test", "2001:db8::2")}
    assert found[2] == MailHost("c.test", "192.0.2.3")
    again = await dns_server.hosts.find("one.test")
    assert again == found  # the same shuffle of the same cached answer


async def test_a_domain_without_mx_is_its_own_host(dns_server):
    """The implicit MX of RFC 5321 section 5.1."""
    dns_server.zone.records = {("one.test", "A"): ["192.0.2.1"]}
    assert await dns_server.hosts.find("one.test") == [MailHost("one.test", "192.0.2.1")]


@pytest.mark.parametrize(
    ("records", "aliases", "error"),
    [
        ({("one.test", "MX"): ["0 ."]}, {}, errors.NullMx),
        ({("one.test", "*"): dns.rcode.NXDOMAIN}, {}, errors.NoSuchDomain),
        ({("gone.test", "*"): dns.rcode.NXDOMAIN}, {"one.test": "gone.test"}, errors.NoRoute),  # an alias may be mended
        ({("one.test", "*"): dns.rcode.SERVFAIL}, {}, errors.LookupFailed),
        ({("one.test", "*"): dns.rcode.REFUSED}, {}, errors.LookupFailed),
        ({("one.test", "*"): None}, {}, errors.LookupFailed),  # no answer at all
        ({}, {}, errors.NoRoute),  # the name exists, without any address
        ({("one.test", "MX"): ["10 a.test."], ("a.test", "*"): dns.rcode.NXDOMAIN}, {}, errors.NoRoute),
        ({("one.test", "MX"): ["10 a.test."], ("a.test", "*"): dns.rcode.SERVFAIL}, {}, errors.LookupFailed),
    ],
)
async def test_only_definite_denials_are_definite(dns_server, records, aliases, error):
    """A null MX and an NXDOMAIN of the domain's own name are answers; anything else may be better later."""
    dns_server.zone.records, dns_server.zone.aliases = records, aliases
    with pytest.raises(errors.DeliveryError) as caught:
        await dns_server.hosts.find("one.test")
    assert type(caught.value) is error


async def test_one_failing_host_does_not_hide_the_others(dns_server):
    """A mail host whose address cannot be looked up is left out."""
    dns_server.zone.records = {
        ("one.test", "MX"): ["10 a.test.", "20 b.test."],
        ("a.test", "*"): dns.rcode.SERVFAIL,
        ("b.test", "A"): ["192.0.2.2"],
    }
    assert await dns_server.hosts.find("one.test") == [MailHost("b.test", "192.0.2.2")]


@pytest.mark.parametrize(
    ("ttl", "kept"),
    [(0, LEAST_TTL), (300, 300), (86400, MOST_TTL)],
)
async def test_answers_are_kept_for_a_bounded_time(dns_server, ttl, kept):
    """The record's TTL counts, within bounds."""
    dns_server.zone.records = {("one.test", "MX"): ["10 a.test."], ("a.test", "A"): ["192.0.2.1"]}
    dns_server.zone.ttl = ttl
    for at, lookups in ((0, 1), (kept - 1, 1), (kept, 2)):
        dns_server.now.seconds = 1000.0 + at
        await dns_server.hosts.find("one.test")
        assert dns_server.zone.asked.count(("one.test", "MX")) == lookups


@pytest.mark.parametrize(("rcode", "kept"), [(dns.rcode.NXDOMAIN, NEGATIVE_TTL), (dns.rcode.SERVFAIL, FAILURE_TTL)])
async def test_failures_are_kept_shortly(dns_server, rcode, kept):
    """A denial is remembered for a minute, a failing resolver for seconds."""
    dns_server.zone.records = {("one.test", "*"): rcode}
    for at in (0, kept - 1):
        dns_server.now.seconds = 1000.0 + at
        with pytest.raises(errors.DeliveryError):
            await dns_server.hosts.find("one.test")
    before = len(dns_server.zone.asked)
    dns_server.zone.records = {("one.test", "A"): ["192.0.2.1"]}
    dns_server.now.seconds = 1000.0 + kept
    assert await dns_server.hosts.find("one.test")
    assert len(dns_server.zone.asked) > before


async def test_concurrent_questions_share_one_look_up(dns_server):
    """Ten channels of one lane ask the resolver once."""
    dns_server.zone.records = {("one.test", "MX"): ["10 a.test."], ("a.test", "A"): ["192.0.2.1"]}
    await asyncio.gather(*(dns_server.hosts.find("one.test") for _ in range(10)))
    assert dns_server.zone.asked.count(("one.test", "MX")) == 1


async def test_hops_of_mail_hosts_and_literals(dns_server):
    """Every mail host gets opportunistic TLS; a domain literal is its own address; nonsense is no route."""
    dns_server.zone.records = {("one.test", "A"): ["192.0.2.1"]}
    route = Mx(dns_server.hosts)
    assert await route.hops("one.test") == (Hop("one.test", 25, "192.0.2.1", Tls.OPPORTUNISTIC),)
    assert [hop.address for hop in await route.hops("[192.0.2.9]")] == ["192.0.2.9"]
    assert [hop.address for hop in await route.hops("[IPv6:2001:db8::9]")] == ["2001:db8::9"]
    with pytest.raises(errors.NoRoute):
        await route.hops("[x]")
