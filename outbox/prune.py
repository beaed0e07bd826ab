"""Deletes journal segments whose every message has ended and is archived, after a retention.

The queue forgets a message only when both are true (outbox/retire.py), so "the queue no longer knows it" is the test,
unless the queue lost its memory (outbox/generation.py).
"""

import asyncio
import time
from pathlib import Path

from redis.asyncio import Redis

from outbox.confirmed import Ids, ids_of, mark, marked
from outbox.generation import Memory, Sight
from outbox.journal import Journal, own_journal, read_segment, sync_folder
from outbox.reinject import Reinjector
from runtime.connections import StoreError
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_EVERY_SECONDS = 600


def own_pruned_journal(settings: Settings, process: str) -> Journal:
    """A journal without mail, less the segments that are old: the archive has had what they tell for days."""
    journal, _ = own_journal(settings.data_dir / "journal", process)
    for segment in journal.closed_segments:
        if _is_older(segment, settings.journal_retention.total_seconds()):
            segment.unlink()
    return journal


class Pruner:
    """Looks over one journal every ten minutes."""

    def __init__(self, redis: Redis, journal: Journal, reinjector: Reinjector, settings: Settings) -> None:
        self._redis = redis
        self._journal = journal
        self._reinjector = reinjector
        self._memory = Memory(settings)
        self._prefix = f"{{{settings.queue_prefix}}}"
        self._retention = settings.journal_retention.total_seconds()

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.prune_once()
            except StoreError as failure:
                log.info("journal.prune_put_off", error=str(failure)[:100])
            await asyncio.sleep(_EVERY_SECONDS)

    async def prune_once(self) -> int:
        """Delete what may go now; how many segments that were."""
        if not await self._memory.look(self._redis):
            return 0  # it waits for a rebuild, which needs every segment
        gone = [segment for segment in self._journal.closed_segments if await self._may_go(segment)]
        for segment in gone:
            await self._keep_marks_of_others(segment)
            segment.unlink()
            log.info("journal.segment_pruned", segment=segment.name)
        if gone:
            sync_folder(self._journal.folder)
        return len(gone)

    async def _may_go(self, segment: Path) -> bool:
        if not self._is_old(segment) or segment in self._reinjector.segments:
            return False
        ids = await asyncio.to_thread(_ids, segment)
        pipe = self._redis.pipeline(transaction=False)
        for message_id in ids:
            pipe.exists(f"{self._prefix}:m:{message_id}")
        pipe.mget(self._memory.keys)  # with the answers: one emptied since the look would know nothing
        *known, sight = await pipe.execute()
        return not any(known) and not self._memory.is_lost(Sight.of(sight))

    async def _keep_marks_of_others(self, segment: Path) -> None:
        """A mark may lie behind its accept, in a later segment: while an older one stays, so must the marks."""
        if segment == self._journal.segments()[0]:
            return
        for repeat, accepts in (await asyncio.to_thread(_marks_of_others, segment)).items():
            await self._journal.append(mark(accepts, repeat=repeat))

    def _is_old(self, segment: Path) -> bool:
        return _is_older(segment, self._retention)


def _is_older(segment: Path, seconds: float) -> bool:
    return time.time() - segment.stat().st_mtime > seconds


def _ids(segment: Path) -> list[str]:
    accepted = (header for _, header, _ in read_segment(segment) if header["kind"] == "accepted")
    return [message_id for header in accepted for message_id in ids_of(header)]


def _marks_of_others(segment: Path) -> dict[bool, list[Ids]]:
    """The accepts that are marked in it and lie in another: repeats of a key, and others."""
    marks: dict[bool, set[Ids]] = {}
    own: set[Ids] = set()
    for _, header, _ in read_segment(segment):
        if header["kind"] == "confirmed":
            marks.setdefault(header.get("repeat", False), set()).update(marked(header))
        elif header["kind"] == "accepted":
            own.add(ids_of(header))
    return {repeat: sorted(accepts - own) for repeat, accepts in marks.items() if accepts - own}
