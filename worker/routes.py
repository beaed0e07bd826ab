"""Where mail for a domain goes next: the development mailbox, a smarthost, or the domain's own mail hosts."""

import ipaddress
import random
from collections.abc import Sequence
from typing import Protocol

from runtime.settings import Settings
from worker.errors import NoRoute
from worker.hop import Hop, Tls
from worker.mx import MailHosts
from worker.resolver import resolver

SMTP_PORT = 25


class Route(Protocol):
    """Finds next hops."""

    name: str

    async def hops(self, domain: str) -> Sequence[Hop]:
        """The hops to try, in order; at least one. Raises DeliveryError."""


class Fixed:
    """One hop for every domain: the mailbox or a smarthost."""

    def __init__(self, name: str, hop: Hop) -> None:
        self.name = name
        self._hops = (hop,)

    async def hops(self, domain: str) -> Sequence[Hop]:  # noqa: ARG002  (a Route is asked by domain)
        """The one hop."""
        return self._hops


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


def from_settings(settings: Settings) -> Route:
    """The route in force. Reads the resolver configuration when the route is `mx`."""
    if settings.route == "mailbox":
        return Fixed("mailbox", Hop("mailbox", settings.mailbox_smtp_port, settings.host))
    if settings.route == "smarthost":
        password = settings.smarthost_password.get_secret_value()
        tls = Tls(settings.smarthost_tls)
        hop = Hop(settings.smarthost_host, settings.smarthost_port, "", tls, settings.smarthost_user, password)
        return Fixed("smarthost", hop)
    shuffle = random.SystemRandom().shuffle
    return Mx(MailHosts(resolver(settings), shuffle=shuffle))
