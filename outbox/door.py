"""The door in front of accepting: so many are worked on at once, so many may wait, the rest is refused at once.

A burst may fill the long line and is worked off. A line that has not been empty for a while is no burst but more than
we can do: then only a short one is kept, so that those who are taken wait little, and refusing costs next to nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TypeVar

from prometheus_client import Counter, Gauge

from outbox.errors import Overloaded
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

Result = TypeVar("Result")

WORKING = Gauge("nightmail_accepts_in_flight", "Accepts that are being worked on")
WAITING = Gauge("nightmail_accepts_waiting", "Accepts that wait for a place")
TURNED_AWAY = Counter("nightmail_overload_refusals_total", "Accepts refused because of too many others")

_STANDING_SECONDS = 0.1  # a line that was not empty for so long is a standing one
_CALM_SECONDS = 2.0  # without a refusal, until a burst may fill the long line again
_HUGE = 1024 * 1024  # octets of a request that is worked on alone
_AT_ONCE = 4  # let in per turn of the event loop, so that refusals are not held up by composing


class Octets:
    """Octets of large requests in memory, over the whole process."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    def take(self, octets: int) -> bool:
        """Take so many; False when they are not there."""
        if self.used + octets > self.most:
            return False
        self.used += octets
        return True

    def give_back(self, octets: int) -> None:
        """The end of `take`."""
        self.used -= octets


class Door:
    """One per process."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = settings.accept_places
        self._burst = settings.accept_waiting
        self._wait = settings.accept_wait.total_seconds()
        self._clock = clock
        self.octets = Octets(settings.accept_bytes)
        self._huge = asyncio.Semaphore(1)
        self._working = 0
        self._line: deque[asyncio.Future[None]] = deque()
        self._began_at = 0.0  # when the line was begun
        self._standing_until = 0.0
        self._letting_in = False
        WORKING.set_function(lambda: self._working)
        WAITING.set_function(lambda: len(self._line))

    @property
    def is_full(self) -> bool:
        """Whether one more would be refused now; of an empty line nobody is."""
        return bool(self._line) and len(self._line) >= self._most_waiting()

    def demand(self) -> None:
        """Return if one more may wait; raises Overloaded."""
        if self.is_full:
            self._turn_away("too many accepts at once")

    async def in_thread(self, work: Callable[[], Result], octets: int) -> Result:
        """What `work` on a request of so many octets gives.

        A thread shares the interpreter with the event loop, and 25 MB keep one busy for half a second: with several of
        them the loop would seldom have its turn, so they are worked on one at a time.
        """
        if octets <= _HUGE:
            return await asyncio.to_thread(work)
        async with self._huge:
            return await asyncio.to_thread(work)

    async def enter(self) -> None:
        """Take a place to work in; each enter needs its `leave`.

        Raises Overloaded at once when the line is full, or when the wait is too long.
        """
        if self._working < self._places and not self._line:
            self._working += 1
            return
        self.demand()
        await self._stand_in_line()

    def leave(self) -> None:
        """Give the place to whoever waits longest, or back."""
        self._working -= 1
        if self._line:
            self._let_in_soon()

    __aenter__ = enter

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    async def _stand_in_line(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._line:
            self._began_at = self._clock()
        self._line.append(turn)
        try:
            async with asyncio.timeout(self._wait):
                await turn
        except BaseException as end:
            if turn.done() and not turn.cancelled():  # it came in the same turn of the loop: pass it on
                self.leave()
            else:
                self._step_out(turn)
            if isinstance(end, TimeoutError):
                self._turn_away("no place came free")
            raise

    def _let_in_soon(self) -> None:
        if not self._letting_in:
            self._letting_in = True
            asyncio.get_running_loop().call_soon(self._let_in)

    def _let_in(self) -> None:
        self._letting_in = False
        let_in = 0
        while self._line and self._working < self._places and let_in < _AT_ONCE:
            turn = self._line.popleft()
            if not turn.done():  # its caller was cancelled a moment ago
                turn.set_result(None)
                self._working += 1
                let_in += 1
        if self._line and self._working < self._places:
            self._let_in_soon()

    def _step_out(self, turn: asyncio.Future[None]) -> None:
        with suppress(ValueError):
            self._line.remove(turn)

    def _most_waiting(self) -> int:
        now = self._clock()
        is_standing = now - self._began_at > _STANDING_SECONDS
        return max(1, self._places // 4) if is_standing or now < self._standing_until else self._burst

    def _turn_away(self, why: str) -> NoReturn:
        now = self._clock()
        if now >= self._standing_until:
            log.warning("accept.overloaded", because=why, working=self._working, waiting=len(self._line))
        self._standing_until = now + _CALM_SECONDS
        TURNED_AWAY.inc()
        raise Overloaded(why)
