"""A channel: one connection's turn at a lane. Claims batches, sends each in order, hands what ended to the finisher."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from outbox.blobs import OpenBlob
from outbox.errors import BlobLost, ObjectsUnavailable
from outbox.message import Attempt, Claim
from outbox.queue import Outbox
from outbox.states import State
from runtime.connections import StoreError
from runtime.logs import get
from runtime.settings import Settings
from worker import suppressed
from worker.conclude import conclude
from worker.errors import ContentAway, LeaseLost
from worker.failpoint import Step, reach
from worker.finisher import Finisher
from worker.leases import Leases
from worker.metrics import LEASES_LOST, QUEUE_FAILURES
from worker.sender import Sender
from worker.signer import Signer

log = get(__name__)

RELEASE_PAUSE = 0.2  # seconds between tries to give back while the queue is away
_SILENT = 2.0  # seconds
UNFINISHED = 64  # attempts that may wait to be settled before the channel sends more


@dataclass(frozen=True, slots=True)
class Parts:
    """What every channel of a worker shares."""

    outbox: Outbox
    finisher: Finisher
    settings: Settings
    signer: Signer
    worker: str
    now: Callable[[], datetime]
    jitter: Callable[[], float]  # in [0, 1)


class Channel:
    """Runs until its lane has nothing due, its next hop cannot be reached, or it is asked to leave."""

    def __init__(self, lane: str, name: str, sender: Sender, parts: Parts) -> None:
        self.lane = lane
        self.name = name
        self.opened_at = time.monotonic()
        self.claiming = True  # whether it may still take more of its lane
        self.claimed = 0  # deliveries so far
        self.answered = asyncio.Event()  # the queue has answered its first claim, or will not
        self._given = False  # whether it has a batch that it did not ask for
        self._full = False  # whether the last claim was
        self._finished = 0  # deliveries handed to the finisher
        self.failed = False  # whether the next hop could not be reached
        self.queue_lost = False
        self._in_lane = False  # whether it may have a place there to give back
        self._stopping = False
        self._sender = sender
        self._parts = parts
        self._leases = Leases(parts.settings.lease)
        self._unsent: dict[str, Claim] = {}  # claims that can be given back: no final dot went out for them
        self._current: Claim | None = None
        self._changed = asyncio.Event()  # a lease was renewed or dropped, or we stop

    @property
    def deep(self) -> bool:
        """Whether the lane has work for another channel. A hop that has ended nothing yet may hang: one is enough."""
        return self._full and self._finished > 0

    def hangs(self, now: float) -> bool:
        """Whether the next hop has ended nothing for a while: it may be silent for minutes more."""
        return not self._finished and now - self.opened_at > _SILENT

    def give(self, claims: Sequence[Claim], *, asked_at: float) -> None:
        """Let it begin with these, claimed under its name no sooner than `asked_at`."""
        self._given = True
        self._take(claims, asked_at=asked_at)
        self.answered.set()

    def leave(self) -> None:
        """End after the batch in hand."""
        self.claiming = False

    def stop(self) -> None:
        """End after the delivery in hand."""
        self.claiming = False
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Work, then leave the lane. Each claim ends settled, released, or left to its lease."""
        try:
            while self.claiming and (self._given or await self._claim()):
                self._given = False
                await self._work_off()
                self.claiming = self.claiming and not self.failed
            self._current = None
        except asyncio.CancelledError:
            self._current = None
            self._sender.abort()
            raise
        except BaseException:
            self._sender.abort()
            raise
        finally:
            self.claiming = False
        await self._sender.close()
        await self._release_all()
        await self._settled(0)
        await self._rescue_orphans()
        await self._leave()

    async def _claim(self) -> bool:
        """Take a batch. False: nothing is due, the lane is full, or the queue is away."""
        limit = self._parts.settings.claim_batch
        asked_at = time.monotonic()
        self._in_lane = True
        try:
            claims = await self._parts.outbox.claim(self.lane, channel=self.name, limit=limit, now=self._parts.now())
        except StoreError as error:
            log.warning("claim.failed", lane=self.lane, error=f"{type(error).__name__}: {error}"[:200])
            QUEUE_FAILURES.labels("claim").inc()
            self.queue_lost = True
            return False
        finally:
            self.answered.set()
        self._take(claims, asked_at=asked_at)
        return bool(claims)

    def _take(self, claims: Sequence[Claim], *, asked_at: float) -> None:
        self.claimed += len(claims)
        self._full = len(claims) == self._parts.settings.claim_batch
        self._in_lane = bool(claims)  # a claim that finds nothing gives the place back itself
        self._leases.take(claims, asked_at=asked_at)
        self._unsent = {claim.delivery_id: claim for claim in claims}
        self._sender.prepare(claims)
        if claims:
            reach(Step.AFTER_CLAIM)

    async def _work_off(self) -> None:
        claims = list(self._unsent.values())
        for claim, following in zip(claims, [*claims[1:], None], strict=True):
            if self._stopping:
                return
            self._current = claim
            attempt = await (
                self._attempt_large(claim, following) if claim.message.blob else self._attempt(claim, following)
            )
            if attempt is not None:
                self._finish(claim, attempt)
                if self._unsettled() > UNFINISHED:
                    await self._settled(UNFINISHED)

    async def _attempt_large(self, claim: Claim, following: Claim | None) -> Attempt | None:
        """The same of a message whose content lies beside the queue. Altered content is never sent."""
        try:
            blob = await asyncio.to_thread(self._parts.outbox.blobs.open, claim.message)
        except ObjectsUnavailable as failure:
            return self._sender.unreachable(claim, ContentAway(str(failure)))
        except BlobLost:
            await self._hold(claim)
            return None
        with closing(blob):
            return await self._attempt(claim, following, blob)

    async def _hold(self, claim: Claim) -> None:
        """Put it aside for a person. A queue that is away leaves it to its lease: then it is looked for again."""
        try:
            await self._parts.outbox.hold(claim, reason="content_lost", now=self._parts.now())
        except StoreError:
            QUEUE_FAILURES.labels("hold").inc()
        self._unsent.pop(claim.delivery_id, None)
        self._drop(claim)

    def _attempt(
        self, claim: Claim, following: Claim | None, blob: OpenBlob | None = None
    ) -> Awaitable[Attempt | None]:
        """The attempt's end; None when the lease was lost, or when we stop before we are sure of it."""
        if claim.suppressed:
            return self._attempt_others(claim, following, blob)
        return self._try(claim, following, blob)

    async def _attempt_others(self, claim: Claim, following: Claim | None, blob: OpenBlob | None) -> Attempt | None:
        """The same where some are on the suppression list."""
        if len(claim.suppressed) == len(claim.recipients):
            return suppressed.none_of(claim, self._parts.now())
        attempt = await self._try(suppressed.the_others(claim), following, blob)
        return attempt and suppressed.with_all(claim, attempt)

    async def _try(self, claim: Claim, following: Claim | None, blob: OpenBlob | None) -> Attempt | None:
        if following is not None and following.suppressed:
            following = None  # what is announced to the next hop would name all its recipients
        if self._sender.down is not None:
            return self._sender.unreachable(claim, self._sender.down)
        while self._leases.sure(claim) or await self._sure(claim):
            # Noted while the next hop reads MAIL: before the dot is early enough.
            beginning = asyncio.get_running_loop().call_soon(self._parts.finisher.begin, claim)
            try:
                return await self._sender.attempt(claim, before_dot=self._before_dot, following=following, blob=blob)
            except LeaseLost:
                self._parts.finisher.forget(claim)
                log.info("delivery.held_back", id=claim.message.id, delivery=claim.delivery_id)
            finally:
                beginning.cancel()
        return None

    async def _sure(self, claim: Claim) -> bool:
        """Wait until the lease is certain; False when it is lost, or when we stop."""
        while not self._leases.sure(claim):
            if not self._leases.holds(claim):
                LEASES_LOST.inc()
                self._unsent.pop(claim.delivery_id, None)
                self._parts.finisher.forget(claim)
                return False
            if self._stopping:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    def _before_dot(self) -> bool:
        """The last moment to hold back: from a True on, only the next hop can say whether it was delivered."""
        if self._current is None or not self._leases.sure(self._current):
            return False
        self._parts.finisher.begin(self._current)
        self._unsent.pop(self._current.delivery_id, None)
        return True

    def _finish(self, claim: Claim, attempt: Attempt) -> None:
        self._unsent.pop(claim.delivery_id, None)
        self._finished += 1
        parts = self._parts
        receipt = conclude(claim, attempt, now=parts.now(), jitter=parts.jitter(), settings=parts.settings)
        unreachable = self._sender.down is not None
        self.failed = unreachable and any(outcome.state is State.DEFERRED for outcome in receipt.attempt.outcomes)
        # Before anything else: until now a crash forgets it.
        parts.finisher.finish(receipt, self._drop, begins=self._sender.announced)

    def _drop(self, claim: Claim) -> None:
        self._leases.drop(claim)
        self._changed.set()

    def _unsettled(self) -> int:
        """How many claims are in hand beside those that were not sent."""
        return len(self._leases) - len(self._unsent)

    async def _settled(self, most: int) -> None:
        """Wait until at most so many are unsettled."""
        while self._unsettled() > most:
            self._changed.clear()
            await self._changed.wait()

    async def renew(self) -> None:
        """Extend the leases in hand. The drain calls it several times within a lease. Raises StoreError."""
        claims = self._leases.claims
        if claims:
            asked_at = time.monotonic()
            lost = await self._parts.outbox.renew(claims, channel=self.name, now=self._parts.now())
            self._leases.renewed(claims, lost, asked_at=asked_at)
            self._changed.set()

    async def release(self) -> None:
        """Give back what was not sent: after a stop, a cancellation or a crash. Raises StoreError.

        A delivery under which we crashed is left to its lease: lost leases are counted, so that it ends up held.
        """
        if self._current is not None:
            self._unsent.pop(self._current.delivery_id, None)
        claims = list(self._unsent.values())
        await self._parts.outbox.release(claims, now=self._parts.now())
        for claim in claims:
            self._unsent.pop(claim.delivery_id, None)
            self._parts.finisher.forget(claim)
            self._drop(claim)

    async def _release_all(self) -> None:
        while self._unsent:
            try:
                await self.release()
            except StoreError:
                QUEUE_FAILURES.labels("release").inc()
                await asyncio.sleep(RELEASE_PAUSE)

    async def _rescue_orphans(self) -> None:
        """A claim that got no answer may have been granted: what is leased to us and not in hand goes back."""
        begun = self._parts.finisher.given_up
        while self.queue_lost:
            try:
                await self._parts.outbox.rescue(self.name, begun=begun, now=self._parts.now())
            except StoreError:
                QUEUE_FAILURES.labels("rescue").inc()
                await asyncio.sleep(RELEASE_PAUSE)
            else:
                self.queue_lost = False

    async def _leave(self) -> None:
        if not self._in_lane:
            return
        try:
            await self._parts.outbox.leave(self.lane, self.name)
        except StoreError:
            QUEUE_FAILURES.labels("leave").inc()  # the place frees itself when its time is over
