"""Sending domains against a real DNS server: pending until the records are there, and safe from a broken resolver."""

from datetime import timedelta

import pytest

from outbox.domain_store import DomainStore
from outbox.policy import Policy
from outbox.policy_store import PolicyStore
from outbox.sender_domain import Status
from runtime.sealing import Seal
from tests.fixtures.dns_server import DnsServer
from worker.domain_checks import LATEST, SOONEST, DomainChecks, pause_after


@pytest.fixture
async def dns_server():
    async with DnsServer() as server:
        yield server


class Clock:
    """A monotonic clock that the test moves."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
async def place(redis, settings, dns_server):
    changed = settings.model_copy(update={"dns_resolvers": dns_server.address, "verified_domains_only": True})
    return Place(redis, changed, dns_server)


class Place:
    def __init__(self, redis, settings, dns_server):
        self.redis, self.settings, self.dns = redis, settings, dns_server
        self.store = DomainStore(PolicyStore(redis, settings), settings, Seal.from_settings(settings))
        self.policy = Policy(redis, settings)
        self.clock = Clock()
        self.checks = DomainChecks(settings, monotonic=self.clock)

    async def look(self):
        """A round of the chore, after every pause is over; the domain's status."""
        self.clock.now += 2 * 3600
        await self.checks.round()
        (domain,) = await self.store.all()
        await self.policy.refresh()
        return domain.status(self.store.hosts)

    def publish(self, domain, *, purposes=("rsa", "ed25519", "spf")):
        for record in domain.records(self.store.hosts):
            if record.purpose in purposes:
                self.dns.publish_text(record.full_name(domain.name), record.value)


async def test_a_domain_from_first_to_last(place):
    """Not looked at before it is asked for; pending; verified, and mail is taken; a broken resolver changes nothing."""
    domain = await place.store.create("ours.test")
    assert await place.look() is Status.NOT_STARTED
    assert place.dns.asked == []
    await place.store.ask(domain)
    assert await place.look() is Status.PENDING
    assert not place.policy.may_send_from("ours.test")

    place.publish(domain, purposes=("rsa",))
    assert await place.look() is Status.PARTIALLY_VERIFIED
    assert place.policy.may_send_from("ours.test")
    place.publish(domain)
    assert await place.look() is Status.VERIFIED

    place.dns.broken = {name for name, _ in place.dns.zone}
    assert await place.look() is Status.VERIFIED
    place.dns.broken = set()
    place.dns.zone.clear()
    assert await place.look() is Status.TEMPORARY_FAILURE
    assert place.policy.may_send_from("ours.test")


async def test_the_tracking_name_is_looked_for_too(place):
    """A CNAME to somewhere else is none; what is missing of tracking keeps no mail from being sent."""
    place = Place(place.redis, place.settings.model_copy(update={"tracking_host": "in.ours.test"}), place.dns)
    domain = await place.store.ask(await place.store.create("ours.test", tracking_subdomain="links"))
    place.publish(domain)
    place.dns.publish("links.ours.test", "CNAME", "elsewhere.test.")
    assert await place.look() is Status.PARTIALLY_VERIFIED
    assert place.policy.may_send_from("ours.test")
    assert place.policy.get("domain", "ours.test")["tracking_host"] == ""
    place.dns.publish("links.ours.test", "CNAME", "IN.ours.test.")
    assert await place.look() is Status.VERIFIED
    assert place.policy.get("domain", "ours.test")["tracking_host"] == "links.ours.test"


async def test_a_foreign_key_verifies_nobody(place):
    """A record under our selector with another key, and an SPF record without our host, are not ours."""
    domain = await place.store.ask(await place.store.create("ours.test"))
    for record in domain.records(place.store.hosts):
        place.dns.publish_text(record.full_name("ours.test"), record.value.replace("p=", "p=AA").replace("a:", "b:"))
    assert await place.look() is Status.PENDING


async def test_rounds_look_only_at_what_is_due(place):
    """A pending domain is looked at again after a pause, and at once when somebody asks again."""
    domain = await place.store.ask(await place.store.create("ours.test"))
    assert await place.checks.round() == 1
    assert await place.checks.round() == 0
    place.clock.now += SOONEST
    assert await place.checks.round() == 1
    await place.store.ask(domain)
    assert await place.checks.round() == 1


async def test_unchanged_domains_are_not_written(place, redis):
    """A look that finds what is known already makes no event."""
    domain = await place.store.ask(await place.store.create("ours.test"))
    place.publish(domain)
    await place.look()
    events = await redis.xlen(f"{{{place.settings.queue_prefix}}}:events")
    await place.look()
    assert await redis.xlen(f"{{{place.settings.queue_prefix}}}:events") == events


def test_pauses_grow_with_the_wait():
    """From seconds to ten minutes."""
    waits = [pause_after(timedelta(seconds=s)) for s in (0, 60, 3600, 86400)]
    assert waits == [SOONEST, 6.0, 360.0, LATEST]


async def test_private_keys_are_nowhere_in_the_clear(place, redis):
    """Neither events nor the queue hold a private key; sealed ones are in the queue only."""
    domain = await place.store.create("ours.test")
    assert all(key.sealed for key in domain.keys)
    events = repr(await redis.xrange(f"{{{place.settings.queue_prefix}}}:events"))
    stored = repr(await redis.hgetall(f"{{{place.settings.queue_prefix}}}:policy"))
    for key in domain.keys:
        assert key.public in events
        assert key.sealed not in events
        assert key.sealed in stored
