"""Mail hosts of a domain from DNS (RFC 5321 section 5.1, RFC 7505), with a cache whose times are bounded."""

import asyncio
import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from worker.errors import DeliveryError, LookupFailed, NoRoute, NoSuchDomain, NullMx
from worker.hop import Hop, Tls

SMTP_PORT = 25
MOST_HOSTS = 5  # mail hosts whose addresses are looked up
MOST_ADDRESSES = 8  # addresses that one attempt may try
LEAST_TTL, MOST_TTL = 60.0, 3600.0  # seconds an answer is kept, whatever its own TTL
NEGATIVE_TTL = 60.0  # "no such domain" is a typo or a young domain: look again soon
FAILURE_TTL = 5.0  # a resolver that fails is not asked for the same name by every channel
MOST_CACHED = 10_000

Shuffle = Callable[[list["MailHost"]], None]


@dataclass(frozen=True, slots=True)
class MailHost:
    """A mail host and one of its addresses."""

    host: str
    address: str


@dataclass(frozen=True, slots=True)
class _Record:
    preference: int
    host: str


@dataclass(slots=True)
class _Cached:
    expires_at: float  # monotonic
    answer: asyncio.Future[list[list[MailHost]]]


class MailHosts:
    """Looks up and remembers. One per process; concurrent questions about a domain share one look-up."""

    def __init__(
        self,
        resolver: dns.asyncresolver.Resolver,
        *,
        shuffle: Shuffle,
        timeout: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._shuffle = shuffle
        self._timeout = timeout
        self._clock = clock
        self._cache: dict[str, _Cached] = {}

    async def find(self, domain: str) -> list[MailHost]:
        """Hosts in the order to try them: by preference, shuffled among equals. Raises DeliveryError."""
        cached = self._cache.get(domain)
        if cached is None or (cached.answer.done() and self._clock() >= cached.expires_at):
            cached = _Cached(0.0, asyncio.get_running_loop().create_future())
            self._keep(domain, cached)
            await self._fill(domain, cached)
        groups = await asyncio.shield(cached.answer)
        hosts: list[MailHost] = []
        for group in groups:
            shuffled = list(group)
            self._shuffle(shuffled)  # RFC 5321 section 5.1: spread the load over equal preferences
            hosts += shuffled
        return hosts[:MOST_ADDRESSES]

    def _keep(self, domain: str, cached: _Cached) -> None:
        self._cache.pop(domain, None)
        self._cache[domain] = cached
        if len(self._cache) > MOST_CACHED:
            self._cache.pop(next(iter(self._cache)))

    async def _fill(self, domain: str, cached: _Cached) -> None:
        ttl = FAILURE_TTL
        try:
            groups, answer_ttl = await self._look_up(domain)
            ttl = min(max(answer_ttl, LEAST_TTL), MOST_TTL)
            cached.answer.set_result(groups)
        except DeliveryError as error:
            ttl = FAILURE_TTL if isinstance(error, LookupFailed) else NEGATIVE_TTL
            cached.answer.set_exception(error)
        finally:
            if not cached.answer.done():  # cancelled: those who share the question ask again
                cached.answer.set_exception(LookupFailed(f"the look-up of {domain} was interrupted"))
            cached.answer.exception()  # seen, even if nobody waits any more
            cached.expires_at = self._clock() + ttl

    async def _look_up(self, domain: str) -> tuple[list[list[MailHost]], float]:
        records, ttl = await self._records(domain)
        if [record.host for record in records] == ["."]:
            raise NullMx(f"{domain} takes no mail (null MX)")
        implicit = not records  # RFC 5321 section 5.1: without MX records, the domain is its own mail host
        wanted = [_Record(0, domain)] if implicit else sorted(records, key=lambda r: r.preference)[:MOST_HOSTS]
        found = await asyncio.gather(*(self._addresses(record.host) for record in wanted), return_exceptions=True)
        by_preference: dict[int, list[MailHost]] = {}
        failure: DeliveryError | None = None
        for record, addresses in zip(wanted, found, strict=True):
            if isinstance(addresses, LookupFailed):
                failure = addresses
            elif isinstance(addresses, BaseException):
                raise addresses
            else:
                hosts = [MailHost(record.host, address) for address in addresses]
                by_preference.setdefault(record.preference, []).extend(hosts)
        groups = [group for group in by_preference.values() if group]
        if not groups:
            raise failure or NoRoute(f"no mail host of {domain} has an address")
        return groups, ttl

    async def _records(self, domain: str) -> tuple[list[_Record], float]:
        answer = await self._ask(domain, "MX")
        if answer is None:
            return [], LEAST_TTL
        records = [_Record(r.preference, r.exchange.to_text(omit_final_dot=True).lower() or ".") for r in answer]
        return [_Record(r.preference, r.host) for r in records], float(answer.rrset.ttl) if answer.rrset else 0.0

    async def _addresses(self, host: str) -> Sequence[str]:
        """IPv4 first: more of the world's mail hosts trust it. Empty when the host has none."""
        four, six = await asyncio.gather(
            self._ask(host, "A", own=False), self._ask(host, "AAAA", own=False), return_exceptions=True
        )
        addresses = [r.address for answer in (four, six) if isinstance(answer, dns.resolver.Answer) for r in answer]
        failures = [answer for answer in (four, six) if isinstance(answer, BaseException)]
        if not addresses and failures:
            raise failures[0]
        return addresses

    async def _ask(self, name: str, kind: str, *, own: bool = True) -> dns.resolver.Answer | None:
        """One question; None when the name has no such record.

        Raises LookupFailed; and NoSuchDomain, only when the domain's `own` name is denied by a definite answer: a
        denied target of an alias or of an MX is somebody's mistake that may be mended.
        """
        try:
            return await self._resolver.resolve(name, kind, lifetime=self._timeout, search=False)
        except dns.resolver.NoAnswer:
            return None
        except dns.resolver.NXDOMAIN as denial:
            if own and denial.canonical_name == dns.name.from_text(name):
                raise NoSuchDomain(f"the domain {name} does not exist") from denial
            return None
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            raise LookupFailed(f"DNS look-up of {kind} {name} failed: {type(error).__name__}") from error


class Mx:
    """The domain's mail hosts. TLS is taken where offered, with any certificate (RFC 7435)."""

    name = "mx"

    def __init__(self, mail_hosts: MailHosts, *, port: int = SMTP_PORT) -> None:
        self._mail_hosts = mail_hosts
        self._port = port

    async def hops(self, domain: str) -> Sequence[Hop]:
        """Mail hosts by preference, or the address itself for a domain literal (RFC 5321 section 4.1.3)."""
        if domain.startswith("["):
            return (Hop(domain, self._port, _literal(domain), Tls.OPPORTUNISTIC),)
        found = await self._mail_hosts.find(domain)
        return tuple(Hop(host.host, self._port, host.address, Tls.OPPORTUNISTIC) for host in found)


def _literal(domain: str) -> str:
    text = domain.strip("[]")
    try:
        return str(ipaddress.ip_address(text[5:] if text.lower().startswith("ipv6:") else text))
    except ValueError as error:
        raise NoRoute(f"{domain} is no address literal") from error
