"""Hears from the queue that work came, or is given some under the name of a channel that is kept ready for it."""

from collections.abc import Callable, Iterator
from datetime import datetime

from outbox.handover import Call
from outbox.queue import Outbox


class Listener:
    """`hear` again and again; `give_up` at the end."""

    def __init__(self, outbox: Outbox, names: Iterator[str], now: Callable[[], datetime]) -> None:
        self._outbox = outbox
        self._names = names
        self._now = now
        self._name = next(names)
        self._unsure = False  # whether a call may have been lost on its way, with what came with it

    async def hear(self, seconds: float, *, is_free: bool) -> Call:
        """Wait for a call; work comes with it only to who `is_free`. Raises StoreError."""
        if self._unsure:
            await self.give_up()
        self._unsure = True
        call = await self._outbox.wait(seconds, channel=self._name if is_free else "", now=self._now())
        self._unsure = False
        if call.claims:
            self._name = next(self._names)
        return call

    async def give_up(self) -> None:
        """Be given nothing more, and let others have what we were given and do not know of. Raises StoreError."""
        await self._outbox.rescue(self._name, begun=(), now=self._now())
        self._unsure = False
