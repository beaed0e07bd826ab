"""The outbox in Redis: every state change is one Lua call, so it happens whole or not at all.

The way of a delivery: `append` puts it into its lane, `claim` leases it, `settle` records how the attempt ended;
`release`, `reap` and `rescue` bring back what was claimed and not settled.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any

from redis.asyncio import Redis

from outbox import events
from outbox.blobs import Blobs
from outbox.entry import Arguments
from outbox.errors import ObjectsUnavailable
from outbox.generation import Memory
from outbox.handover import Call, unpacked_call
from outbox.lines import Argument, Lines
from outbox.message import Attempt, Claim, Message
from outbox.packing import unpacked
from outbox.recall import BRIEF, Recall
from outbox.receipt import Receipt
from outbox.scripts import Scripts
from outbox.states import State
from outbox.suppression import Origin, Suppression
from outbox.view import MessageView, outcome_json, read_view
from runtime import clock
from runtime.clock import from_ms, ms_of, to_ms
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

FLOW_BUCKET_MS = 5_000  # in and out flow is counted in buckets of this length, kept for three minutes
_REAP_LIMIT = 500
_NO_PAST = (0, b"0", b"", b"")  # what claim.lua leaves out of a first claim
_FIRST = (0,)  # the recipients of nearly all deliveries
_SAME_MS = 1000  # clocks that differ by less count as one
_IDLE_MS = 1000  # a channel counts as waiting for so much longer than its wait: it may be about to wait again


class Cancel(StrEnum):
    """What became of a request to cancel."""

    CANCELLED = "cancelled"
    SENDING = "sending"
    ENDED = "ended"
    UNKNOWN = "unknown"


class Reschedule(StrEnum):
    """What became of a request to move a scheduled message."""

    RESCHEDULED = "rescheduled"
    NOT_SCHEDULED = "not_scheduled"
    UNKNOWN = "unknown"


def bucket_of(ms: int) -> int:
    """The flow bucket that an instant falls into."""
    return ms // FLOW_BUCKET_MS


class Outbox:
    """Reads and moves what is queued. `redis` needs a reply timeout; `waiting` is a client without one, for `wait`."""

    def __init__(self, redis: Redis, settings: Settings, *, waiting: Redis | None = None) -> None:
        self._redis = redis
        self._waiting = Lines(waiting or redis)
        self._settings = settings
        self._scripts = Scripts(redis, settings)
        self._memory = Memory(settings)
        self.blobs = Blobs(settings)
        self._recall = Recall(settings)
        self._lease_ms = ms_of(settings.lease)
        self._skew_ms = 0  # the queue's clock less ours

    def _key(self, *parts: str) -> str:
        return ":".join((self._scripts.prefix, *parts))

    async def look(self) -> bool:
        """Whether the queue has its memory; a new one is given its mark. Without it no script does anything."""
        await self._compare_clocks()
        return await self._memory.look(self._redis)

    async def _compare_clocks(self) -> None:
        """Leases go by the clock of the queue, or a machine whose own is wrong would take back what others hold."""
        seconds, micros = await self._redis.time()
        skew = seconds * 1000 + micros // 1000 - to_ms(clock.now())
        self._skew_ms = skew if abs(skew) > _SAME_MS else 0

    def _by_the_queue(self, now: datetime) -> int:
        return to_ms(now) + self._skew_ms

    @property
    def is_lost(self) -> bool:
        """Whether it had lost its memory at the last look."""
        return self._memory.found_lost

    async def recorded_and_archived(self) -> tuple[int, int]:
        """The number of the newest event, and how far events are archived."""
        newest, archived = await self._redis.mget(self._key("seq"), self._key("archived"))
        return int(newest or 0), int(archived or 0)

    async def append(self, entries: Sequence[Arguments]) -> list[Any]:
        """Give accept.lua these entries in one call; the replies in order.

        The first one's time counts for all of them.
        What the queue refuses, it refuses for all of them: the ResponseError stands in place of each reply.
        """
        settings, now = self._settings, entries[0].at
        arguments: list[Argument] = [self._lease_ms, settings.claim_batch, self._skew_ms]
        arguments += len(entries), now, bucket_of(now), b"".join(chain.from_iterable(e.contents for e in entries))
        for entry in entries:
            arguments += entry.words
        (replies,) = await self._scripts.pipeline([("accept", arguments)])
        return [replies] * len(entries) if isinstance(replies, Exception) else list(replies)

    async def probe(self) -> None:
        """Write something that means nothing. Raises what it is that keeps writes away."""
        (reply,) = await self._scripts.pipeline([("probe", ())])
        if isinstance(reply, Exception):
            raise reply

    async def claim(self, lane: str, *, channel: str, limit: int, now: datetime) -> list[Claim]:
        """Up to `limit` due deliveries of the lane, leased to `channel`; none when the lane has all its channels.

        One whose content is gone, since the queue lost its memory meanwhile, is left to its lease.
        """
        most, by_the_queue = self._settings.lane_connections, self._by_the_queue(now)
        rows = await self._scripts.call("claim", lane, channel, limit, to_ms(now), self._lease_ms, most, by_the_queue)
        if not rows:
            return []
        keys = [self._key("c", row[0].decode().rpartition("/")[0]) for row in rows]
        (contents,) = await self._scripts.lines.ask(("MGET", *keys))
        claims = [_claim(lane, row, content) for row, content in zip(rows, contents, strict=True)]
        return [claim for claim, content in zip(claims, contents, strict=True) if _is_whole(claim, content)]

    async def settle(
        self, claim: Claim, attempt: Attempt, *, worker: str, now: datetime, next_attempt_at: datetime | None
    ) -> bool:
        """Record an attempt's outcomes; deferred recipients wait for `next_attempt_at`. False: the lease was lost."""
        (settled,) = await self.settle_all([Receipt(claim, attempt, now, next_attempt_at)], worker=worker)
        return settled

    async def settle_all(self, receipts: Sequence[Receipt], *, worker: str) -> list[bool]:
        """The same for attempts that ended, in one call: what costs the queue its time is the number of commands."""
        bucket = bucket_of(receipts[-1].header["ended_at"])  # mostly that of all
        arguments: list[Argument] = [len(receipts), bucket]
        for receipt in receipts:
            arguments += _settlement(receipt, worker)
        return [bool(reply) for reply in await self._scripts.call("settle", *arguments)]

    async def release(self, claims: Sequence[Claim], *, now: datetime) -> None:
        """Give claims back untried: they are due at once and the attempt does not count."""
        if claims:
            await self._scripts.call("release", to_ms(now), len(claims), *_tokens(claims))

    async def hold(self, claim: Claim, *, reason: str, now: datetime) -> bool:
        """Put a claimed delivery aside for a person. False: the lease was lost."""
        return bool(await self._scripts.call("hold", claim.delivery_id, claim.token, to_ms(now), reason))

    async def leave(self, lane: str, channel: str) -> None:
        """Free the channel's place in the lane."""
        await self._redis.zrem(self._key("chan", lane), channel)

    async def renew(self, claims: Sequence[Claim], *, channel: str, now: datetime) -> set[str]:
        """Extend the leases of claims in one lane; the delivery ids of those that are no longer ours."""
        if not claims:
            return set()
        lane, tokens = claims[0].lane, _tokens(claims)
        by_the_queue = self._by_the_queue(now)
        lost = await self._scripts.call("renew", lane, channel, by_the_queue, self._lease_ms, len(claims), *tokens)
        return {did.decode() for did in lost}

    async def reap(self, *, now: datetime) -> int:
        """Take back expired leases; how many there were."""
        await self._compare_clocks()
        most, by_the_queue = self._settings.max_releases, self._by_the_queue(now)
        return int(await self._scripts.call("reap", to_ms(now), most, _REAP_LIMIT, by_the_queue))

    async def rescue(self, owner: str, *, begun: Collection[str] | None, now: datetime) -> int:
        """Take back what a channel holds, or a worker with all its channels, that sends no more; how many there were.

        `begun` are the delivery ids it had begun to send, as far as is known; None: any may have been begun.
        """
        everything = int(begun is None)
        most = self._settings.max_releases
        return int(await self._scripts.call("rescue", to_ms(now), most, owner, everything, *(begun or ())))

    async def redrive(self, delivery_id: str, *, now: datetime) -> bool:
        """Put a held delivery back to work. False: it is not held."""
        return bool(await self._scripts.call("redrive", delivery_id, to_ms(now)))

    async def lanes(self, *, now: datetime, limit: int) -> tuple[list[str], datetime | None]:
        """Lanes with due work, the longest waiting first; and since when or for when the first delivery waits."""
        key = self._key("lanes")
        due, head = await self._scripts.lines.ask(
            ("ZRANGEBYSCORE", key, "-inf", to_ms(now), "LIMIT", 0, limit),
            ("ZRANGE", key, 0, 0, "WITHSCORES"),
        )
        if head and isinstance(head[0], list):  # RESP3 pairs a member with its score
            (head,) = head
        return [lane.decode() for lane in due], from_ms(head[1]) if head else None

    async def wait(self, timeout: float, *, channel: str, now: datetime) -> Call:  # noqa: ASYNC109  (the server's time)
        """Return when work was added, or after `timeout` seconds.

        What came to a lane where nobody is, is claimed for `channel` at once, unless that is ''. A wait that raised may
        have been given work: `rescue` the channel.
        """
        given = self._key("given", channel)
        if channel:
            await self._scripts.call("idle", channel, self._by_the_queue(now) + round(timeout * 1000) + _IDLE_MS)
        (told,) = await self._waiting.ask(("BLPOP", given, self._key("wake"), timeout))
        if told is None:
            return Call()
        if told[0].decode() != given:
            return Call(told[1].decode())
        lane, rows = unpacked_call(told[1])
        return Call(lane, channel, [_claim(lane, row, content) for content, *row in rows])

    async def cancel(self, message_id: str, *, now: datetime) -> Cancel:
        """Cancel the whole message unless some of it is being sent or has ended."""
        event = events.cancelled(message_id, at=now)
        return Cancel((await self._scripts.call("cancel", message_id, to_ms(now), event)).decode())

    async def reschedule(self, message_id: str, scheduled_at: datetime, *, now: datetime) -> Reschedule:
        """Move a message that is still scheduled."""
        event = events.rescheduled(message_id, scheduled_at, at=now)
        reply = await self._scripts.call("reschedule", message_id, to_ms(scheduled_at), event)
        return Reschedule(reply.decode())

    async def first_use(self, key_hash: str) -> bytes | None:
        """What an idempotency key was used for, as FirstUse.decode reads it; None if for nothing."""
        used: Any = await self._redis.get(self._key("idem", key_hash))
        return bytes(used) if used else None

    async def record(self, event: bytes) -> None:
        """Append an event that changes no message."""
        await self._scripts.call("record", event)

    async def find(self, message_id: str, *, content: bool = False) -> MessageView | None:
        """What the outbox knows of a message; None when it is unknown or was retired."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(self._key("m", message_id))
        if content:
            pipe.get(self._key("c", message_id))
        fields, *octets = await pipe.execute()
        if BRIEF in fields:
            return (await self._recall.views({message_id: fields[BRIEF]}, content=content)).get(message_id)
        view = read_view(fields, unpacked(octets[0]) if octets else None) if fields else None
        return await self._with_blob(view) if view and content and view.message.blob else view

    async def _with_blob(self, view: MessageView) -> MessageView:
        try:
            return replace(view, content=await asyncio.to_thread(self.blobs.read, view.message))
        except ObjectsUnavailable as failure:
            log.warning("blob.unreadable", id=view.message.id, error=str(failure))
            return replace(view, content=None)

    async def newest(
        self, *, limit: int, before_ms: int | None = None, after_ms: int | None = None
    ) -> list[MessageView]:
        """Messages by creation, newest first: those no younger than `before_ms`, or the ones next after `after_ms`."""
        index = self._key("index")
        ids: Any
        if after_ms is not None:
            ids = await self._redis.zrangebyscore(index, after_ms, "+inf", start=0, num=limit)
            ids.reverse()
        else:
            top = "+inf" if before_ms is None else before_ms
            ids = await self._redis.zrevrangebyscore(index, top, "-inf", start=0, num=limit)
        pipe = self._redis.pipeline(transaction=False)
        for message_id in ids:
            pipe.hgetall(self._key("m", message_id.decode()))
        found = {i.decode(): fields for i, fields in zip(ids, await pipe.execute(), strict=True) if fields}
        recalled = await self._recall.views({i: fields[BRIEF] for i, fields in found.items() if BRIEF in fields})
        views = {i: recalled.get(i) if BRIEF in fields else read_view(fields, None) for i, fields in found.items()}
        return [view for view in views.values() if view]


def _settlement(receipt: Receipt, worker: str) -> list[Argument]:
    """What settle.lua is told of one attempt."""
    claim, attempt, told = receipt.claim, receipt.attempt, receipt.header
    now, again_at, error = told["ended_at"], told["next_attempt_at"], ""
    event = events.attempted(receipt, worker=worker)
    arguments: list[Argument] = [claim.delivery_id, claim.token, now, event, len(told["outcomes"])]
    for outcome in attempt.outcomes:
        arguments += outcome.recipient, outcome.state, outcome_json(outcome)
        if outcome.state is State.DEFERRED:
            error = error or outcome.error
            if again_at is None:
                raise ValueError("a deferred outcome needs next_attempt_at")
    if again_at is None and not told["complained"] and not told["suppress"]:
        arguments.append("")
        return arguments
    complaint = b""
    if told["complained"]:
        complaint = events.complained(claim.message.id, told["complained"], at=receipt.ended_at)
    in_doubt = told["in_doubt"] or claim.possible_duplicate  # what one attempt left open, no later one can settle
    arguments += 1, complaint, "" if again_at is None else again_at, error, int(in_doubt), len(told["suppress"])
    for recipient, why in told["suppress"]:
        suppression = Suppression.new("", Origin(why), claim.message.id, now=receipt.ended_at)
        arguments += recipient, suppression.to_json()
    return arguments


def _tokens(claims: Sequence[Claim]) -> list[Argument]:
    return [part for claim in claims for part in (claim.delivery_id, claim.token)]


def _claim(lane: str, row: list[Any], content: bytes | None) -> Claim:
    did, token, to, meta, *past = row
    attempts, duplicate, rescheduled, suppressed = past or _NO_PAST
    message = Message.from_json(meta)
    return Claim(
        replace(message, scheduled_at=from_ms(rescheduled)) if rescheduled else message,
        unpacked(content or b""),
        int(did.rpartition(b"/")[2]),
        lane,
        _FIRST if to == b"0" else tuple(map(int, to.split(b","))),
        int(attempts),
        int(token),
        duplicate == b"1",
        _suppressed(suppressed) if suppressed else (),
    )


def _is_whole(claim: Claim, content: bytes | None) -> bool:
    if content is not None or claim.message.blob:
        return True
    log.error("claim.content_missing", id=claim.message.id, delivery=claim.delivery_id)
    return False


def _suppressed(told: bytes) -> tuple[tuple[int, str], ...]:
    """Recipients on the suppression list, as claim.lua tells them."""
    return tuple((int(recipient), why.decode()) for recipient, why in (one.split(b":") for one in told.split(b",")))
