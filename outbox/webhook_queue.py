"""The messages that wait for webhooks, and what became of the last ones: in the queue, a lane for each endpoint.

`hooks` holds the place of each webhook in the events. Of one webhook, `hook:<id>:due` has what is to be sent by time,
`:open` what has not ended by the event it came behind, `:all` what is known by the time of its event, `:m:<message>`
the message, `:a:<message>` its attempts, `:failing` since when every attempt has failed. The number of messages is
bounded; what comes behind it waits in the events.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from redis.asyncio import Redis

from outbox.lines import Argument
from outbox.scripts import Scripts
from runtime.clock import from_ms, to_ms
from runtime.settings import Settings

_ATTEMPTS = 50  # kept of one message
_DROP = 500  # messages forgotten in one call


@dataclass(frozen=True, slots=True)
class Payload:
    """A message before it was ever sent: its id (the receiver's key against duplicates), its event's type and time."""

    id: str
    type: str
    at: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class HookClaim:
    """A message under way. `token` fences, `tries` are the earlier ones."""

    id: str
    token: int
    tries: int
    body: bytes


@dataclass(frozen=True, slots=True)
class HookMessage:
    """What is known of a message. `status` is Resend's: pending, attempting, success or failed."""

    id: str
    type: str
    at: datetime
    status: str
    next_attempt_at: datetime | None
    body: bytes


@dataclass(frozen=True, slots=True)
class HookAttempt:
    """One try: the answer's status (0: there was none) and the beginning of its body, or why there was none."""

    id: str
    http_status_code: int
    response: str
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Sight:
    """A webhook's place in the events, the newest event, and whether more messages may be put for it.

    Half of those that are kept are for messages that were sent.
    """

    place: int
    newest: int
    has_room: bool


class WebhookQueue:
    """Reads and moves them; each move is one Lua call."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._scripts = Scripts(redis, settings)
        self._keep = settings.webhook_keep

    def _key(self, *parts: str) -> str:
        return ":".join((self._scripts.prefix, *parts))

    async def look(self, webhook_id: str) -> Sight:
        """What there is to do. A webhook without a place in the events begins at the newest."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hget(self._key("hooks"), webhook_id)
        pipe.get(self._key("seq"))
        pipe.zcard(self._key("hook", webhook_id, "due"))
        place, newest, waiting = await pipe.execute()
        if place is None:
            place = await self._scripts.call("hook_begin", webhook_id, 0)
        return Sight(int(place), int(newest or 0), has_room=waiting < self._keep // 2)

    async def begin_now(self, webhook_id: str) -> None:
        """Events from here on are for it: it is new, or was disabled until now."""
        await self._scripts.call("hook_begin", webhook_id, 1)
        await self._redis.delete(self._key("hook", webhook_id, "failing"))

    async def told(self) -> dict[str, int]:
        """For each webhook the number of the event up to which every message was taken, or given up."""
        flat = await self._scripts.call("hook_told")
        return {webhook_id.decode(): number for webhook_id, number in zip(flat[::2], flat[1::2], strict=True)}

    async def put(self, webhook_id: str, payloads: list[Payload], *, after: int, until: int, now: datetime) -> bool:
        """Take the messages of the events from `after` to `until`. False: another process was quicker."""
        arguments: list[Argument] = [webhook_id, after, until, to_ms(now), self._keep]
        for payload in payloads:
            arguments += [payload.id, payload.type, to_ms(payload.at), payload.body]
        return bool(await self._scripts.call("hook_put", *arguments))

    async def claim(self, webhook_id: str, *, lease_ms: int, limit: int, now: datetime) -> list[HookClaim]:
        """Up to `limit` due messages."""
        rows = await self._scripts.call("hook_claim", webhook_id, to_ms(now), lease_ms, limit)
        return [HookClaim(message.decode(), int(token), int(tries), body) for message, token, tries, body in rows]

    async def settle(
        self,
        webhook_id: str,
        claim: HookClaim,
        attempt: HookAttempt,
        *,
        well: bool,
        again_at: datetime | None,
        now: datetime,
    ) -> datetime | None:
        """Record an attempt. Returns since when every attempt of this webhook has failed; None if not so."""
        status = "success" if well else "pending" if again_at else "failed"
        due = to_ms(again_at) if again_at else ""
        written = orjson.dumps([attempt.id, attempt.http_status_code, attempt.response, to_ms(attempt.sent_at)])
        arguments = (webhook_id, claim.id, claim.token, to_ms(now), status, due, written, _ATTEMPTS)
        since = int(await self._scripts.call("hook_settle", *arguments))
        return from_ms(since) if since > 0 else None

    async def replay(self, webhook_id: str, message_id: str, *, now: datetime) -> bool:
        """Send it once more. False: it is unknown."""
        return bool(await self._scripts.call("hook_replay", webhook_id, message_id, to_ms(now)))

    async def drop(self, webhook_id: str) -> None:
        """Forget all of a webhook that is gone."""
        while await self._scripts.call("hook_drop", webhook_id, _DROP):
            pass

    async def page(self, webhook_id: str, *, limit: int, after: str | None = None) -> list[HookMessage]:
        """Up to `limit` messages, the newest first, older than the message `after`."""
        every = self._key("hook", webhook_id, "all")
        rank: Any = await self._redis.zrevrank(every, after) if after is not None else None
        first = 0 if rank is None else rank + 1
        ids: Any = await self._redis.zrevrange(every, first, first + limit - 1)
        found = [await self.find(webhook_id, message_id.decode()) for message_id in ids]
        return [message for message in found if message]

    async def find(self, webhook_id: str, message_id: str) -> HookMessage | None:
        """One message."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(self._key("hook", webhook_id, "m", message_id), ["type", "at", "status", "body"])
        pipe.zscore(self._key("hook", webhook_id, "due"), message_id)
        (kind, at, status, body), due = await pipe.execute()
        if kind is None:
            return None
        next_attempt_at = from_ms(due) if due is not None and status == b"pending" else None
        return HookMessage(message_id, kind.decode(), from_ms(at), status.decode(), next_attempt_at, body)

    async def attempts(self, webhook_id: str, message_id: str) -> list[HookAttempt]:
        """The last attempts at a message, the newest first."""
        rows: Any = await self._redis.lrange(self._key("hook", webhook_id, "a", message_id), 0, -1)
        told = [orjson.loads(row) for row in reversed(rows)]
        return [HookAttempt(one, code, response, from_ms(sent_at)) for one, code, response, sent_at in told]
