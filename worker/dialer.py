"""A connection for a lane: an idle one, or a new one to the first hop of its route that talks to us."""

import dataclasses
import time

from worker.client import Client
from worker.errors import DeliveryError, NoRoute, TlsFailed
from worker.hop import Hop, Tls
from worker.pool import Pool
from worker.routes import Route
from worker.session import Opener, Steps


class Dialer:
    """One per worker."""

    def __init__(self, route: Route, opener: Opener, pool: Pool) -> None:
        self.route = route
        self.pool = pool
        self._opener = opener

    async def connect(self, lane: str, *, fresh: bool = False) -> tuple[Client, Steps]:
        """A client ready for MAIL, and the time of each step it took. Raises the last hop's DeliveryError.

        `fresh` forbids idle connections: one has just turned out to be dead.
        """
        started = time.perf_counter()
        hops = await self.route.hops(lane)
        dns = round((time.perf_counter() - started) * 1000, 2)
        steps: Steps = [("dns", dns)] if self.route.name == "mx" else []
        if not fresh:
            for hop in hops:
                if client := self.pool.take(hop):
                    return client, steps
        failure: DeliveryError = NoRoute(f"no next hop for {lane}")
        for hop in hops:  # RFC 5321 section 5.1: try the next address until one works
            try:
                client, more = await self._open(hop)
            except DeliveryError as error:
                failure = error
            else:
                return client, steps + more
        raise failure

    async def _open(self, hop: Hop) -> tuple[Client, Steps]:
        try:
            return await self._opener.open(hop)
        except TlsFailed:
            if hop.tls is not Tls.OPPORTUNISTIC:
                raise
        # A broken STARTTLS of a mail host: plaintext is what it would get without offering any (RFC 7435 section 3).
        return await self._opener.open(dataclasses.replace(hop, tls=Tls.NONE))
