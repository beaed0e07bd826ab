"""Idle connections between two uses: many lanes share a next hop, and connecting costs more than sending."""

import time
from collections import OrderedDict
from collections.abc import Callable

from worker.client import Client
from worker.hop import Hop

IDLE_SECONDS = 5.0  # politeness: RFC 5321 lets a client keep a connection only while it has mail


class Pool:
    """Clients that somebody gave back, newest used first, closed when they have idled too long."""

    def __init__(self, *, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._idle: OrderedDict[Client, float] = OrderedDict()  # client -> since when, oldest first

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, hop: Hop) -> Client | None:
        """An idle connection to this hop that still works."""
        for client in reversed(self._idle):
            if client.hop == hop:
                del self._idle[client]
                if client.usable:
                    return client
                client.abort()
                return self.take(hop)
        return None

    def give(self, client: Client) -> Client | None:
        """Keep a client for the next one. Returns the client to say goodbye to, if that makes one too many."""
        if not client.usable:
            client.abort()
            return None
        self._idle[client] = self._clock()
        return self._idle.popitem(last=False)[0] if len(self._idle) > self._most else None

    def stale(self) -> list[Client]:
        """Take out those that have idled too long, for the caller to say goodbye."""
        limit = self._clock() - IDLE_SECONDS
        old = [client for client, since in self._idle.items() if since <= limit or not client.usable]
        for client in old:
            del self._idle[client]
        return old

    def empty(self) -> list[Client]:
        """Take out all."""
        clients = list(self._idle)
        self._idle.clear()
        return clients
