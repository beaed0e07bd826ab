"""Finishes attempts while the channel sends on: receipt to the journal, then settle in the queue.

The receipt is written at once, so that it survives our death. Attempts that end meanwhile share an fdatasync, and each
group of them a round trip.
"""

import asyncio
from collections.abc import Callable, Sequence

from outbox.journal import Journal
from outbox.message import Claim
from outbox.queue import Outbox
from runtime.connections import StoreError, passes
from runtime.logs import get
from worker.failpoint import Step, reach
from worker.metrics import LEASES_LOST, QUEUE_FAILURES, UNSETTLED
from worker.receipts import Receipt, Receipts
from worker.trace import trace

log = get(__name__)

GROUP = 64  # attempts settled together
PAUSE_FIRST, PAUSE_MOST = 0.02, 1.0  # seconds between tries while the queue is away
MOST_REFUSALS = 12  # tries of what the queue, which is well, refuses: a bug

Done = Callable[[Claim], None]


class Finisher:
    """One per worker. An outcome given to it is never dropped: it tries until the queue has answered."""

    def __init__(self, outbox: Outbox, journal: Journal, *, worker: str) -> None:
        self._outbox = outbox
        self._receipts = Receipts(journal)
        self._worker = worker
        self._waiting: list[tuple[Receipt, Done]] = []
        self._running: asyncio.Task[None] | None = None
        self.begun_before: set[str] | None = None  # deliveries that an earlier life had begun; None: nobody knows
        self.given_up: set[str] = set()  # deliveries whose outcomes the queue refused
        self.blocked = False  # the queue is away while outcomes wait for it

    def begin(self, claim: Claim) -> None:
        """An attempt begins."""
        try:
            self._receipts.begin(claim)
        except OSError as error:  # if we die now, the attempt is not flagged
            log.error("receipts.not_written", error=str(error))

    def forget(self, claim: Claim) -> None:
        """Nothing came of the attempt."""
        self._receipts.forget(claim)

    def finish(self, receipt: Receipt, done: Done, *, begins: Claim | None = None) -> None:
        """Take charge of an attempt that has ended; `done` is told the claim when the queue knows of it or refuses to.

        `begins` is an attempt that has begun with the end of this one.
        """
        try:
            self._receipts.write(receipt, begins=begins)
        except OSError as error:  # the queue can still learn of it; only a crash right now would cost a duplicate
            log.error("receipts.not_written", error=str(error))
        reach(Step.AFTER_RECEIPT)
        self._waiting.append((receipt, done))
        if self._running is None:
            self._running = asyncio.create_task(self._run())

    async def close(self, seconds: float) -> None:
        """Settle what is left, for so long. What remains is in the journal: our next life settles it."""
        while self._running is not None:
            done, _ = await asyncio.wait([self._running], timeout=seconds)
            if not done:
                log.warning("receipts.left_unsettled", count=len(self._receipts))
                self._running.cancel()

    async def recover(self) -> int:
        """Settle what an earlier life of this worker saw and did not live to settle; how many there were."""
        left, self.begun_before = await asyncio.to_thread(self._receipts.left_behind)
        for start in range(0, len(left), GROUP):
            await self._settle(left[start : start + GROUP])
        self._mark()
        if left:
            log.info("receipts.recovered", count=len(left))
        return len(left)

    async def prune(self) -> None:
        """Remove journal segments that are done with."""
        try:
            newest, archived = await self._outbox.recorded_and_archived()
            await self._receipts.prune(newest=newest, archived=archived)
        except StoreError as error:  # OSErrors of the disk are among them
            log.warning("receipts.not_pruned", error=str(error)[:100])

    async def _run(self) -> None:
        try:
            while self._waiting:
                synced = len(self._waiting)
                await self._sync()  # for all: a group that waits for its own waits as long as its settling takes
                for start in range(0, synced, GROUP):
                    group = self._waiting[: min(GROUP, synced - start)]
                    del self._waiting[: len(group)]
                    UNSETTLED.set(len(group) + len(self._waiting))
                    await self._finish_group(group)
            self._mark()
        finally:
            self._running = None
            UNSETTLED.set(0)

    async def _finish_group(self, group: Sequence[tuple[Receipt, Done]]) -> None:
        receipts = [receipt for receipt, _ in group]
        trace(receipts)
        await self._settle(receipts)
        for receipt, done in group:
            done(receipt.claim)

    def _mark(self) -> None:
        try:
            self._receipts.mark()
        except OSError as error:
            log.error("receipts.not_marked", error=str(error))

    async def _sync(self) -> None:
        try:
            await self._receipts.sync()
        except OSError as error:
            log.error("receipts.not_synced", error=str(error))

    async def _settle(self, receipts: Sequence[Receipt]) -> None:
        """Settle all, trying again while the queue is away: its answer decides, never our patience."""
        left, pause, refusals = list(receipts), PAUSE_FIRST, 0
        while left:
            replies = await self._settle_once(left, together=not refusals)
            failures = self._note(left, replies)
            self.blocked = any(passes(error) for _, error in failures)
            refusals = 0 if self.blocked else refusals + 1
            left = [receipt for receipt, _ in failures]
            if left and refusals >= MOST_REFUSALS:
                self._give_up(failures)
                return
            if left:
                QUEUE_FAILURES.labels("settle").inc(len(left))
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSE_MOST)

    async def _settle_once(self, receipts: Sequence[Receipt], *, together: bool) -> Sequence[bool | BaseException]:
        """A reply for each. After a refusal each goes alone: one that the queue cannot take must not hold up others."""
        if not together:
            one_by_one = [self._outbox.settle_all([receipt], worker=self._worker) for receipt in receipts]
            settled = await asyncio.gather(*one_by_one, return_exceptions=True)
            return [reply if isinstance(reply, BaseException) else reply[0] for reply in settled]
        try:
            replies = await self._outbox.settle_all(receipts, worker=self._worker)
        except Exception as error:  # noqa: BLE001  (whatever it is: next time each has its own)
            return [error] * len(receipts)
        reach(Step.MID_SETTLE)
        return replies

    def _note(
        self, receipts: Sequence[Receipt], replies: Sequence[bool | BaseException]
    ) -> list[tuple[Receipt, BaseException]]:
        """Mark what the queue knows now; returns what failed, and why."""
        failures = []
        for receipt, reply in zip(receipts, replies, strict=True):
            if isinstance(reply, BaseException):
                failures.append((receipt, reply))
                continue
            self._receipts.settled(receipt)
            if not reply:  # or an earlier try was carried out although its answer never came
                LEASES_LOST.inc()
                log.warning("settle.stale", id=receipt.claim.message.id, delivery=receipt.claim.delivery_id)
        return failures

    def _give_up(self, failures: Sequence[tuple[Receipt, BaseException]]) -> None:
        """The queue is well and refuses: a bug. Others must not wait behind these.

        Their receipts stay unsettled in the journal. Their leases will run out, and after some of that they are held.
        """
        for receipt, error in failures:
            self.given_up.add(receipt.claim.delivery_id)
            log.error("settle.refused", id=receipt.claim.message.id, exc_info=error)
