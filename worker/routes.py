"""Where mail for a domain goes next: the development mailbox, a smarthost, or the domain's own mail hosts."""

import random
from collections.abc import Sequence
from typing import Protocol

from runtime.settings import Settings
from worker.hop import Hop, Tls


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


def from_settings(settings: Settings) -> Route:
    """The route in force. Reads the resolver configuration when the route is `mx`."""
    if settings.route == "mailbox":
        return Fixed("mailbox", Hop("mailbox", settings.mailbox_smtp_port, settings.host))
    if settings.route == "smarthost":
        password = settings.smarthost_password.get_secret_value()
        tls = Tls(settings.smarthost_tls)
        hop = Hop(settings.smarthost_host, settings.smarthost_port, "", tls, settings.smarthost_user, password)
        return Fixed("smarthost", hop)
    # A restart waits for its imports, and the other routes need no DNS.
    from worker.mx import MailHosts, Mx  # noqa: PLC0415
    from worker.resolver import resolver  # noqa: PLC0415

    return Mx(MailHosts(resolver(settings), shuffle=random.SystemRandom().shuffle))
