"""Journal segments go when all their mail has ended, and never when the queue lost its memory."""

import os
from datetime import timedelta

import pytest

from outbox.confirmed import mark, marked
from outbox.entry import Entry
from outbox.inlet import Inlet
from outbox.journal import Journal, read_segment
from outbox.prune import Pruner
from outbox.queue import Outbox
from outbox.reinject import Reinjector
from runtime.connections import redis_async, redis_sync
from tests.fixtures.mail import NOON, a_submission


@pytest.fixture
async def parts(settings, tmp_path):
    redis = redis_async(settings, timeout=5)
    journal = Journal(tmp_path / "journal", segment_bytes=1)
    outbox = Outbox(redis, settings)
    inlet = Inlet(outbox, redis, timeout=settings.redis_timeout)
    reinjector = Reinjector(inlet, journal, settings, pause=timedelta(milliseconds=10))
    settings = settings.model_copy(update={"journal_retention": timedelta(0)})
    yield redis, journal, outbox, reinjector, Pruner(redis, journal, reinjector, settings)
    await journal.close()
    await redis.aclose()


async def journalled(journal, *, confirmed=True):
    entry = Entry.plain((a_submission(),))
    place = await journal.append(*entry.record(confirmed=confirmed))
    await journal.append({"kind": "filler"})  # closes the segment
    os.utime(place.segment, (1, 1))
    return entry, place


async def test_segment_stays_while_its_mail_lives(parts):
    """A message that the queue still knows keeps its segment; once forgotten, the segment goes."""
    redis, journal, outbox, _, pruner = parts
    entry, place = await journalled(journal)
    await outbox.append([entry.arguments(NOON)])
    await pruner.prune_once()
    assert place.segment.exists()
    await redis.delete(*await redis.keys("*:m:*"))
    assert await pruner.prune_once()
    assert not place.segment.exists()


async def test_unconfirmed_accept_keeps_its_segment(parts):
    """What only the journal has is never deleted."""
    _, journal, _, reinjector, pruner = parts
    _, place = await journalled(journal, confirmed=False)
    reinjector.add(place)
    await pruner.prune_once()
    assert place.segment.exists()


async def test_marks_outlive_their_segment(parts):
    """An accept that stays may be marked in a later segment, which goes before it: the mark is written again."""
    _, journal, outbox, _, pruner = parts
    entry, place = await journalled(journal, confirmed=False)
    await outbox.append([entry.arguments(NOON)])
    await journal.append(mark([entry.ids]))
    await journal.append({"kind": "filler"})
    first, *others = journal.closed_segments
    for segment in others:
        os.utime(segment, (1, 1))
    assert first == place.segment
    assert await pruner.prune_once() == len(others)
    assert first.exists()
    records = [header for segment in journal.segments() for _, header, _ in read_segment(segment)]
    assert [list(marked(header)) for header in records if header["kind"] == "confirmed"] == [[entry.ids]]


async def test_queue_without_memory_deletes_nothing(parts):
    """After the queue was emptied its generation mark differs, and the journal is kept for a rebuild."""
    redis, journal, _, _, pruner = parts
    await pruner.prune_once()
    _, place = await journalled(journal)
    await redis.flushdb()
    assert await pruner.prune_once() == 0
    assert place.segment.exists()


async def test_a_queue_that_is_emptied_meanwhile_keeps_its_segments(parts, monkeypatch):
    """Reading a segment takes a while: what is asked then may no longer be the queue that was looked at."""
    _, journal, outbox, _, pruner = parts
    await outbox.look()
    entry, place = await journalled(journal)
    await outbox.append([entry.arguments(NOON)])

    def meanwhile(segment):
        with redis_sync(outbox._settings) as admin:
            admin.flushdb()
        return entry.ids

    monkeypatch.setattr("outbox.prune._ids", meanwhile)
    assert await pruner.prune_once() == 0
    assert place.segment.exists()
