"""Whether the DNS has the records that a sending domain needs. Can't tell is an answer of its own."""

import asyncio
import re

import dns.asyncresolver
import dns.exception
import dns.resolver
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT

from outbox.sender_domain import Found, Hosts, Record, SenderDomain

PATIENCE = 10.0  # seconds for one look-up


async def look(domain: SenderDomain, hosts: Hosts, resolver: dns.asyncresolver.Resolver) -> dict[str, Found]:
    """What is found of each record of the domain, by its key."""
    records = domain.records(hosts)
    found = await asyncio.gather(*(_look(resolver, record, domain.name) for record in records))
    return {record.key: each for record, each in zip(records, found, strict=True)}


async def _look(resolver: dns.asyncresolver.Resolver, record: Record, domain: str) -> Found:
    try:
        answer = await resolver.resolve(record.full_name(domain), record.type, lifetime=PATIENCE, search=False)
    except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
        return Found.NO
    except (dns.exception.DNSException, OSError, UnicodeError):
        return Found.UNKNOWN
    return Found.YES if any(_fits(record, each) for each in answer) else Found.NO


def _fits(record: Record, published: object) -> bool:
    match published:
        case MX():
            return _is_same(published.exchange, record.value)
        case CNAME():
            return _is_same(published.target, record.value)
        case TXT():
            text = b"".join(published.strings).decode("ascii", "replace")
            return fits_spf(record.value, text) if record.purpose == "spf" else fits_dkim(record.value, text)
    return False


def _is_same(name: object, wanted: str) -> bool:
    return str(name).rstrip(".").lower() == wanted.rstrip(".").lower()


def fits_spf(wanted: str, published: str) -> bool:
    """Whether an SPF record names our hosts (RFC 7208 section 4.5). What else it names is its owner's affair."""
    terms = [term.removeprefix("+").lower() for term in published.split()]
    ours = wanted.lower().split()[1:-1]  # less the version and the final ~all
    return terms[:1] == ["v=spf1"] and set(ours) <= set(terms)


def fits_dkim(wanted: str, published: str) -> bool:
    """Whether a key record carries this key (RFC 6376 section 3.6.1): tags in any order, white space as it pleases."""
    tags, ours = _tags(published), _tags(wanted)
    version = tags.get("v", "DKIM1")
    return version == "DKIM1" and tags.get("k", "rsa") == ours["k"] and tags.get("p") == ours["p"]


def _tags(text: str) -> dict[str, str]:
    pairs = (tag.partition("=") for tag in text.split(";"))
    return {name.strip(): re.sub(r"\s", "", value) for name, _, value in pairs}
