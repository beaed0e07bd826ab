"""The drain of one worker: looks at the due lanes and keeps channels at work on them.

It lives as long as its process; an RQ job lends it a slice of time (worker/jobs.py). Between two slices the loop stands
still for some milliseconds, with its connections open and its claims in hand: leases are checked on the clock anyway.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count

from outbox.errors import QueueLost
from outbox.generation import WATCH
from runtime.connections import StoreError
from runtime.logs import get
from runtime.tasks import end
from worker.channel import Channel, Parts
from worker.dialer import Dialer
from worker.lanes import Pauses, plan
from worker.listener import Listener
from worker.metrics import CHANNELS, QUEUE_FAILURES
from worker.sender import Sender

log = get(__name__)

LOOK = 1.0  # seconds between looks at the lanes when nothing calls
COALESCE = 0.001  # seconds that a call waits for others, since one look serves them all, and for work that came before
REAP = 1.0
REAP_GRACE = 2.0  # seconds after the queue was away in which nobody reaps: first, everybody settles what was delivered
PRUNE = 60.0
TURN = 1.0  # seconds a channel has at its lane when other lanes wait for one
GRACE_AWAY = 3.0  # seconds that a stop waits for a queue that is away
GROW = 0.02  # seconds until a deep lane may get yet another channel
MOST_PAUSE = 1.0  # longest wait between two tries while the queue is away


class Drain:
    """`start` once, `slice` again and again, `stop` once, all in the same event loop."""

    def __init__(self, parts: Parts, dialer: Dialer) -> None:
        self._parts = parts
        self._outbox = parts.outbox
        self._settings = parts.settings
        self._dialer = dialer
        self._channels: dict[Channel, asyncio.Task[None]] = {}
        CHANNELS.set_function(lambda: len(self._channels))
        self._names = (f"{parts.worker}#{number}" for number in count(1))
        self._listener = Listener(parts.outbox, self._names, parts.now)
        self._pauses = Pauses()
        self._look = asyncio.Event()
        self._ended = asyncio.Event()
        self._duties: list[asyncio.Task[None]] = []
        self._rescues: set[asyncio.Task[None]] = set()
        self._no_reap_before = 0.0
        self._queue_away = False
        self._growing = False  # whether a lane got one more channel at the last look

    async def start(self) -> None:
        """First settle what an earlier life of this worker delivered, then take back what else it held, then work.

        In a queue that lost its memory none of it can be done, and it waits.
        """
        first = {"look": self._outbox.look, "recover": self._parts.finisher.recover, "rescue": self._rescue_own}
        for name, duty in first.items():
            await self._until_done(name, duty, unless=self._ended.is_set)
        lease = self._settings.lease.total_seconds()
        self._duties = [
            asyncio.create_task(self._forever("assign", self._assign_and_wait)),
            asyncio.create_task(self._forever("listen", self._listen)),
            asyncio.create_task(self._forever("renew", self._renew, every=lease / 4)),
            asyncio.create_task(self._forever("reap", self._reap, every=REAP)),
            asyncio.create_task(self._forever("tidy", self._tidy, every=REAP)),
            asyncio.create_task(self._forever("prune", self._parts.finisher.prune, every=PRUNE)),
            asyncio.create_task(self._forever("look", self._look_at_mark, every=WATCH)),
        ]

    async def slice(self, seconds: float) -> None:
        """Work for this long, and on while the queue is away, since there is nobody then to give the next slice."""
        deadline = time.monotonic() + seconds
        while not self._ended.is_set() and (time.monotonic() < deadline or self._queue_away):
            left = max(deadline - time.monotonic(), MOST_PAUSE / 10)
            try:
                async with asyncio.timeout(left):
                    await self._ended.wait()
            except TimeoutError:
                continue

    def end(self) -> None:
        """End the slice at once and take nothing more. Safe in a signal handler, through call_soon_threadsafe."""
        self._ended.set()
        for channel in self._channels:
            channel.stop()

    async def stop(self, grace: float) -> None:
        """Finish the deliveries under way within `grace` seconds, give the others back."""
        self.end()
        await end(*self._duties[:2])  # no new channels, but leases and settling go on
        if not self._queue_away:
            await self._give_up()
        await self._channels_end(grace)
        cut = dict(self._channels)
        await end(*cut.values())
        await self._give_back(list(cut))
        await self._parts.finisher.close(MOST_PAUSE)
        await end(*self._duties)
        for client in self._dialer.pool.empty():
            client.abort()

    async def _channels_end(self, grace: float) -> None:
        """Wait for the channels, but not long for a queue that is away: the journal knows what they would settle."""
        begun = time.monotonic()
        while self._channels and time.monotonic() < begun + grace:
            await asyncio.wait(self._channels.values(), timeout=min(MOST_PAUSE, grace))
            if self._queue_away or self._parts.finisher.blocked:
                grace = min(grace, GRACE_AWAY)

    async def _give_up(self) -> None:
        try:
            await self._listener.give_up()
        except StoreError:
            log.warning("release.failed", lane="")  # the lease of what we were given will run out

    async def _give_back(self, channels: list[Channel]) -> None:
        for channel in channels:
            try:
                await channel.release()
            except StoreError:
                log.warning("release.failed", lane=channel.lane)  # their leases will run out

    # Duties

    async def _forever(self, name: str, duty: Callable[[], Awaitable[object]], *, every: float = 0.0) -> None:
        """Do a duty again and again, whatever happens to it."""
        while True:
            try:
                await self._until_done(name, duty)
            except Exception:
                log.exception("drain.duty_failed", duty=name)
                await asyncio.sleep(MOST_PAUSE)
            if every:
                await asyncio.sleep(every)

    async def _until_done(
        self, name: str, duty: Callable[[], Awaitable[object]], *, unless: Callable[[], bool] = lambda: False
    ) -> None:
        """Do a duty once, with bounded back-off while the queue is away; given up when `unless` holds."""
        pause = 0.01
        while not unless():
            try:
                await duty()
            except StoreError as error:
                self._lost(name, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, MOST_PAUSE)
            else:
                return

    def _lost(self, name: str, error: BaseException) -> None:
        if not self._queue_away:
            log.warning("queue.lost", duty=name, error=f"{type(error).__name__}: {error}"[:200])
        QUEUE_FAILURES.labels(name).inc()
        self._queue_away = True
        self._no_reap_before = time.monotonic() + REAP_GRACE

    async def _listen(self) -> None:
        """Open a channel at once for the lane that work came to, and look at all of them beside it.

        Its claim goes first: to listen again, and to look, costs as much time as the claim takes. Work that came with
        the call needs neither, and its way goes first.
        """
        asked_at = time.monotonic()
        call = await self._listener.hear(LOOK, is_free=self._is_free(asked_at))
        if call.claims:
            channel = self._open(call.lane, call.channel)
            channel.give(call.claims, asked_at=asked_at)
            if self._ended.is_set():
                channel.stop()
            await asyncio.sleep(COALESCE)  # to listen again takes as long as the next hop takes to say 354
            return
        if call.lane and self._may_open(call.lane):
            await self._open(call.lane, next(self._names)).answered.wait()
        self._look.set()

    def _may_open(self, lane: str) -> bool:
        """Whether the lane may have its first channel: `_assign` would come to the same, a round trip later."""
        now = time.monotonic()
        mine = any(channel.lane == lane and channel.claiming for channel in self._channels)
        return self._is_free(now) and not mine and self._pauses.over(lane, now=now)

    def _is_free(self, now: float) -> bool:
        """Whether some lane may have a channel more."""
        return self._free(now) > 0 and not self._outbox.is_lost

    def _free(self, now: float) -> int:
        """How many channels may be opened. Beside those that hang at a silent next hop there may be as many again."""
        if self._ended.is_set():
            return 0
        most = self._settings.worker_connections
        return most + min(most, sum(channel.hangs(now) for channel in self._channels)) - len(self._channels)

    async def _assign_and_wait(self) -> None:
        self._look.clear()
        patience = await self._assign()
        if self._queue_away:
            log.info("queue.back")
            self._queue_away = False
        try:
            async with asyncio.timeout(patience):
                await self._look.wait()
                if self._channels:  # an idle worker looks at once: there is nobody to wait for
                    await asyncio.sleep(COALESCE)
        except TimeoutError:
            pass

    def _patience(self, until_due: float, *, now: float) -> float:
        """Seconds until the next look: when the next delivery is due, or a paused lane may be tried again.

        `now` is that of the look behind us: a pause that ended meanwhile is one that it left out.
        """
        if self._growing:
            return GROW
        until_end = self._pauses.next_end(now=now)
        # What is due already waits for a channel or for the end of a pause; either calls us.
        return min(LOOK, until_due if until_due > 0 else LOOK, LOOK if until_end is None else until_end)

    async def _assign(self) -> float:
        """Open channels for due lanes, and ask some to make room when there are not enough.

        Returns in how many seconds to look again.
        """
        if self._outbox.is_lost:
            raise QueueLost("nightmail rebuild queue")
        most = self._settings.worker_connections
        limit = 2 * most + len(self._channels) + len(self._pauses)
        asked_at = self._parts.now()
        lanes, first_due_at = await self._outbox.lanes(now=asked_at, limit=limit)
        now = time.monotonic()
        # Counted after the reply: meanwhile `_listen` may have opened one.
        at_work = Counter(channel.lane for channel in self._channels if channel.claiming)
        due = [lane for lane in lanes if self._pauses.over(lane, now=now)]
        deep = {channel.lane for channel in self._channels if channel.claiming and channel.deep}
        free = self._free(now)
        opened = plan(due, at_work, deep=deep, free=free, most=self._settings.lane_connections)
        for lane in opened:
            self._open(lane, next(self._names))
        self._growing = any(at_work[lane] for lane in opened)
        if sum(1 for lane in due if not at_work[lane]) > free:
            self._make_room(at_work, now)
        until_due = (first_due_at - asked_at).total_seconds() if first_due_at else LOOK
        return self._patience(until_due, now=now)

    def _make_room(self, at_work: Counter[str], now: float) -> None:
        """One channel leaves after its batch: of the lane that has most of them, or the one that is longest at work."""
        claiming = [channel for channel in self._channels if channel.claiming and now - channel.opened_at > TURN]
        if claiming:
            max(claiming, key=lambda channel: (at_work[channel.lane], now - channel.opened_at)).leave()

    def _open(self, lane: str, name: str) -> Channel:
        sender = Sender(lane, self._dialer, self._parts.signer, now=self._parts.now)
        channel = Channel(lane, name, sender, self._parts)
        task = asyncio.create_task(channel.run())
        self._channels[channel] = task
        task.add_done_callback(lambda ended: self._closed(channel, ended))
        return channel

    def _closed(self, channel: Channel, task: asyncio.Task[None]) -> None:
        del self._channels[channel]
        now = time.monotonic()
        if task.cancelled():
            return
        if error := task.exception():
            log.error("channel.crashed", lane=channel.lane, exc_info=error)
            self._pauses.failed(channel.lane, now=now)
            self._rescue(channel)
        elif channel.failed:
            self._pauses.failed(channel.lane, now=now)
        elif channel.claimed:
            self._pauses.worked(channel.lane)
        elif all(other.lane != channel.lane for other in self._channels):
            self._pauses.empty(channel.lane, now=now)
        self._look.set()

    def _rescue(self, channel: Channel) -> None:
        task = asyncio.create_task(self._give_back([channel]))
        self._rescues.add(task)
        task.add_done_callback(self._rescues.discard)

    async def _look_at_mark(self) -> None:
        await self._outbox.look()

    async def _renew(self) -> None:
        await asyncio.gather(*(channel.renew() for channel in list(self._channels)))

    async def _rescue_own(self) -> None:
        begun = self._parts.finisher.begun_before
        if rescued := await self._outbox.rescue(self._parts.worker, begun=begun, now=self._parts.now()):
            log.warning("leases.rescued", count=rescued, begun=len(begun) if begun is not None else None)

    async def _reap(self) -> None:
        if time.monotonic() < self._no_reap_before or self._parts.finisher.blocked:
            return
        if reaped := await self._outbox.reap(now=self._parts.now()):
            log.warning("leases.expired", count=reaped)

    async def _tidy(self) -> None:
        """Say goodbye on idle connections."""
        self._pauses.forget(now=time.monotonic())
        await asyncio.gather(*(client.quit() for client in self._dialer.pool.stale()))
