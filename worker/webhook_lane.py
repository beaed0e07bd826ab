"""One webhook's lane: turns events into messages, posts them, tries again. If its endpoint hangs, only it waits."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import Counter

from outbox.errors import Gap, ObjectsUnavailable
from outbox.events import Event
from outbox.ids import new_id
from outbox.message import Message
from outbox.sender_domain import Hosts
from outbox.webhook import Webhook, Webhooks
from outbox.webhook_queue import HookAttempt, HookClaim, Payload, Sight, WebhookQueue
from runtime.clock import ms_of
from runtime.connections import StoreError
from runtime.logs import get
from runtime.outside import Outside, Refused, Unreachable
from runtime.sealing import Seal, Unsealable
from runtime.settings import Settings
from worker.webhook_messages import EventReader
from worker.webhook_payload import payloads
from worker.webhook_signature import signed_headers

log = get(__name__)

ATTEMPTS = Counter("nightmail_webhook_attempts_total", "Attempts to tell a webhook, by how they ended", ["result"])

# Resend's: the first retry comes 5 s after the first attempt, the last one 27.6 h after it.
RETRIES = tuple(timedelta(seconds=s) for s in (5, 300, 1800, 7200, 18000, 36000, 36000))
_LOOK = 0.25  # seconds between two looks for events and due messages
_PAUSE = 1.0  # seconds after the queue or the archive failed
_AT_ONCE = 8  # posts to one endpoint
_MARGIN = timedelta(seconds=30)  # of a lease, over the longest post
_RESPONSE = 1024  # octets of an answer that are kept
_OK = range(200, 300)
_UNREADABLE = (KeyError, TypeError, ValueError, IndexError, AttributeError)


@dataclass(frozen=True, slots=True)
class Parts:
    """What all lanes of a process share."""

    queue: WebhookQueue
    events: EventReader
    webhooks: Webhooks
    outside: Outside
    seal: Seal
    settings: Settings
    now: Callable[[], datetime]
    retries: tuple[timedelta, ...] = RETRIES


class WebhookLane:
    """Runs until it is cancelled, or its webhook is disabled here. `webhook` may be replaced while it runs."""

    def __init__(self, webhook: Webhook, parts: Parts) -> None:
        self.webhook = webhook
        self._parts = parts
        self._posts: set[asyncio.Task[None]] = set()
        self._hosts = Hosts.from_settings(parts.settings)
        self._lease_ms = ms_of(parts.settings.webhook_timeout + _MARGIN)

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                pause = await self._turn()
                await asyncio.sleep(pause)
        finally:
            for post in self._posts:
                post.cancel()
            await asyncio.gather(*self._posts, return_exceptions=True)

    async def _turn(self) -> float:
        """Read and post what there is; how long to wait then (seconds)."""
        try:
            busy = await self._feed()
            busy |= await self._post_due()
        except (*StoreError, ObjectsUnavailable) as failure:
            log.warning("webhook.put_off", webhook=self.webhook.id, error=f"{type(failure).__name__}: {failure}"[:200])
            return _PAUSE
        return 0.0 if busy else _LOOK

    async def _feed(self) -> bool:
        """Take the next events, unless enough messages wait. Whether there were any."""
        seen = await self._parts.queue.look(self.webhook.id)
        if not seen.has_room or seen.place == seen.newest:
            return False
        try:
            told = await self._parts.events.read(seen.place)
        except Gap as gap:
            return await self._skip(gap, seen)
        if not told:
            return False
        every = (payload for event, message in told for payload in _payloads(event, message, self._hosts))
        wanted = [payload for payload in every if self.webhook.wants(payload.type)]
        await self._put(wanted, seen.place, until=told[-1][0].number)
        return True

    async def _put(self, wanted: list[Payload], after: int, *, until: int) -> None:
        await self._parts.queue.put(self.webhook.id, wanted, after=after, until=until, now=self._parts.now())

    async def _skip(self, gap: Gap, seen: Sight) -> bool:
        """Events are lost for good. Mail is not: so go on behind them, and say so."""
        until = gap.found - 1 if gap.found else seen.newest
        log.error("webhook.events_lost", webhook=self.webhook.id, after=seen.place, until=until, error=str(gap))
        await self._put([], seen.place, until=until)
        return True

    async def _post_due(self) -> bool:
        """Begin as many posts as may run at once. Whether another look soon is worth it."""
        free = _AT_ONCE - len(self._posts)
        if not free:
            await asyncio.wait(self._posts, return_when=asyncio.FIRST_COMPLETED)
            return True
        now = self._parts.now()
        claims = await self._parts.queue.claim(self.webhook.id, lease_ms=self._lease_ms, limit=free, now=now)
        for claim in claims:
            post = asyncio.create_task(self._post(claim))
            self._posts.add(post)
            post.add_done_callback(self._posts.discard)
        return bool(claims)

    async def _post(self, claim: HookClaim) -> None:
        """One attempt, to its record. A record that fails leaves the message to its lease."""
        attempt, well = await self._try(claim)
        try:
            await self._settle(claim, attempt, well=well)
        except StoreError as failure:
            log.warning("webhook.not_settled", webhook=self.webhook.id, id=claim.id, error=str(failure)[:200])
        except Exception:
            log.exception("webhook.settling_crashed", webhook=self.webhook.id, id=claim.id)

    async def _try(self, claim: HookClaim) -> tuple[HookAttempt, bool]:
        parts, sent_at = self._parts, self._parts.now()
        attempt_id = f"atmpt_{new_id(sent_at).replace('-', '')}"
        try:
            secrets = self.webhook.signing_secrets(parts.seal, now=sent_at)
            headers = signed_headers(claim.id, claim.body, secrets, at=int(sent_at.timestamp()))
            answer = await parts.outside.ask(
                "POST",
                self.webhook.endpoint,
                headers=headers | {"content-type": "application/json", "user-agent": "Nightmail-Webhooks"},
                content=claim.body,
                most=_RESPONSE,
                seconds=parts.settings.webhook_timeout.total_seconds(),
            )
        except (Refused, Unreachable, Unsealable) as failure:
            return HookAttempt(attempt_id, 0, str(failure), sent_at), False
        except Exception:  # not counted as a try, it would be made again for ever
            log.exception("webhook.attempt_crashed", webhook=self.webhook.id, id=claim.id)
            return HookAttempt(attempt_id, 0, "the attempt failed here", sent_at), False
        said = answer.body.decode(errors="replace")
        return HookAttempt(attempt_id, answer.status, said, sent_at), answer.status in _OK

    async def _settle(self, claim: HookClaim, attempt: HookAttempt, *, well: bool) -> None:
        parts, now = self._parts, self._parts.now()
        again_at = now + parts.retries[claim.tries] if claim.tries < len(parts.retries) else None
        since = await parts.queue.settle(
            self.webhook.id, claim, attempt, well=well, again_at=None if well else again_at, now=now
        )
        result = "success" if well else "again" if again_at else "failed"
        ATTEMPTS.labels(result).inc()
        log.info("webhook.posted", webhook=self.webhook.id, id=claim.id, status=attempt.http_status_code, result=result)
        if since is not None and now - since >= parts.settings.webhook_give_up:
            await self._disable(since)

    async def _disable(self, since: datetime) -> None:
        """Nothing has worked for days: stop, loudly."""
        webhook = self.webhook
        if await self._parts.webhooks.disable(webhook.id):
            log.error("webhook.disabled", webhook=webhook.id, endpoint=webhook.endpoint, since=since.isoformat())


def _payloads(event: Event, message: Message | None, hosts: Hosts) -> list[Payload]:
    """What is told of an event; nothing of one that cannot be read, or it would stop all that follow."""
    try:
        return payloads(event, message, hosts)
    except _UNREADABLE as error:
        log.error("webhook.event_unreadable", number=event.number, kind=event.kind, error=repr(error))
        return []
