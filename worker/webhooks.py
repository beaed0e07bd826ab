"""All webhooks of a process: a lane for each that is enabled, while an RQ job lends the loop its time."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from prometheus_client import Gauge

from outbox.policy import Policy
from outbox.policy_store import PolicyStore
from outbox.webhook import KIND, Status, Webhook, Webhooks
from outbox.webhook_places import WebhookPlaces
from outbox.webhook_queue import WebhookQueue
from runtime import clock
from runtime.connections import StoreError, redis_async, redis_sync
from runtime.logs import get
from runtime.outside import Outside
from runtime.sealing import Seal
from runtime.settings import Settings
from runtime.tasks import end
from worker.webhook_lane import RETRIES, Parts, WebhookLane
from worker.webhook_messages import EventReader

log = get(__name__)

LANES = Gauge("nightmail_webhooks_enabled", "Webhooks that are told events")

_LOOK = 0.5  # seconds between two looks at which webhooks there are
_CONNECTIONS = 1000  # of all lanes: endpoints that hang must not use up those of the others
_QUEUE_REPLY = 2.0  # seconds that a call waits for the queue's reply


class WebhookLanes:
    """`start` once, `slice` again and again, `stop` once, all in the same event loop."""

    def __init__(self, parts: Parts, policy: Policy) -> None:
        self._parts = parts
        self._policy = policy
        self._places = WebhookPlaces(parts.settings)
        self._lanes: dict[str, tuple[WebhookLane, asyncio.Task[None]]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._watching = asyncio.create_task(self._watch())

    async def slice(self, seconds: float) -> None:
        """Work for this long."""
        deadline = time.monotonic() + seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._ended.wait()

    def end(self) -> None:
        """End the slice at once. Safe in a signal handler, through call_soon_threadsafe."""
        self._ended.set()

    async def stop(self) -> None:
        """Cut what is under way: nothing was promised for it, and it is tried again."""
        await end(self._watching, *(task for _, task in self._lanes.values()))
        if self._closing:
            await asyncio.wait(self._closing)

    async def _watch(self) -> None:
        while True:
            self._look()
            await self._remember()
            await asyncio.sleep(_LOOK)

    async def _remember(self) -> None:
        """On the disk, how far all was told: a queue that loses its memory is put back there."""
        try:
            told = await self._parts.queue.told()
        except StoreError:  # away, or without its memory: what was kept before holds
            return
        try:
            await asyncio.to_thread(self._places.keep, told)
        except OSError as failure:
            log.error("webhooks.places_not_kept", error=str(failure)[:200])

    def _look(self) -> None:
        """Bring the lanes in line with the policy; a lane that crashed begins anew."""
        known = {w.id: w for w in map(Webhook.of, self._policy.all(KIND).values())}
        enabled = {webhook.id: webhook for webhook in known.values() if webhook.status is Status.ENABLED}
        self._parts.events.hits = any(w.wants("email.opened") or w.wants("email.clicked") for w in enabled.values())
        for webhook_id, (_, task) in list(self._lanes.items()):
            if task.done() and not task.cancelled() and (error := task.exception()):
                log.error("webhook.lane_crashed", webhook=webhook_id, exc_info=error)
            if webhook_id not in enabled or task.done():
                del self._lanes[webhook_id]
                self._close(webhook_id, task, forget=webhook_id not in known)
        for webhook_id, webhook in enabled.items():
            if webhook_id in self._lanes:
                self._lanes[webhook_id][0].webhook = webhook
            else:
                lane = WebhookLane(webhook, self._parts)
                self._lanes[webhook_id] = (lane, asyncio.create_task(lane.run()))
        LANES.set(len(self._lanes))

    def _close(self, webhook_id: str, lane: asyncio.Task[None], *, forget: bool) -> None:
        async def close() -> None:
            await end(lane)
            if forget:  # what it took after the webhook was removed
                with suppress(*StoreError):
                    await self._parts.queue.drop(webhook_id)

        closing = asyncio.create_task(close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


@asynccontextmanager
async def telling(settings: Settings, *, retries: Sequence[timedelta] = RETRIES) -> AsyncIterator[WebhookLanes]:
    """Webhooks at work; stopped afterwards."""
    seal = Seal.from_settings(settings)
    async with redis_async(settings, timeout=_QUEUE_REPLY) as redis:
        with redis_sync(settings) as blocking:
            policy, outside = Policy(redis, settings), Outside(settings.reachable_networks, connections=_CONNECTIONS)
            parts = Parts(
                queue=WebhookQueue(redis, settings),
                events=EventReader(blocking, settings),
                webhooks=Webhooks(PolicyStore(redis, settings), seal),
                outside=outside,
                seal=seal,
                settings=settings,
                now=clock.now,
                retries=tuple(retries),
            )
            lanes = WebhookLanes(parts, policy)
            await policy.start()
            try:
                await lanes.start()
                yield lanes
            finally:
                await lanes.stop()
                await policy.stop()
                await outside.close()
