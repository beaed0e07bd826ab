"""The archive in a folder and in an S3-compatible store: verified before anything is let go, pruned when it may be."""

import os
from datetime import timedelta

import pytest

from outbox.archive import Archive
from outbox.archive_prune import prune_archive
from outbox.archiving import archive_once
from outbox.errors import Gap, ObjectsUnavailable, QueueLost
from outbox.facts import Facts, Sources
from outbox.object_store_folder import FolderStore
from outbox.queue import Outbox
from outbox.stream import EventSource, Progress
from outbox.tail import Tail
from runtime import clock
from runtime.connections import redis_async
from tests.fixtures import delivered
from tests.fixtures.delivered import deliver
from tests.fixtures.mail import NOON, a_submission, an_entry
from tests.fixtures.object_store import BUCKET

tail = delivered.tail
MUCH_LATER = NOON + timedelta(hours=1)


@pytest.fixture(params=["folder", "s3"])
def archived(request, settings):
    """Settings with an archive of each kind."""
    if request.param == "folder":
        return settings
    endpoint = request.getfixturevalue("s3_endpoint")
    url = f"s3://{BUCKET}/{settings.queue_prefix}/events"
    return settings.model_copy(update={"archive_url": url, "archive_endpoint": endpoint})


def _damage(archive, segment):
    octets = bytearray(archive.store.get(segment.name))
    octets[20] ^= 1
    archive.store.put(segment.name, bytes(octets))


def test_a_store_keeps_what_it_is_given(archived):
    """Names in order, from a name on; what is not there is None; deleting twice is fine."""
    store = Archive.open(archived).store
    assert list(store.names()) == []
    for name in ("events-2.gz", "events-1.gz", "events-3.gz"):
        store.put(name, name.encode())
    assert list(store.names()) == ["events-1.gz", "events-2.gz", "events-3.gz"]
    assert list(store.names("events-1.gz")) == ["events-2.gz", "events-3.gz"]
    assert store.get("events-2.gz") == b"events-2.gz"
    assert store.get("events-4.gz") is None
    assert abs(store.written_at("events-2.gz") - clock.now()) < timedelta(minutes=1)
    assert store.written_at("events-4.gz") is None
    store.delete("events-2.gz")
    store.delete("events-2.gz")
    assert list(store.names()) == ["events-1.gz", "events-3.gz"]


async def test_the_recorder_reads_back_what_left_the_queue(archived, tail):
    """Over several segments, with contents, also by a reader that listed the archive before the last one came."""
    source = EventSource(tail, archived)
    mails = []
    for _ in range(3):
        mails += await deliver(archived, 2)
        assert archive_once(tail, archived, now=MUCH_LATER) == 4
        tail.xtrim(f"{{{archived.queue_prefix}}}:events", maxlen=0)
        read, after = [], 0
        while some := source.read(after, 3):
            read += some
            after = some[-1].event.number
    assert [r.event.number for r in read] == list(range(1, 13))
    assert [r.content for r in read if r.event.kind == "accepted"] == [m.content for m in mails]
    assert source.read(12, 10) == []


async def test_the_archive_is_the_past_of_a_new_machine(archived, tail, tmp_path):
    """One that joins after the queue was emptied and before the rebuild gives it no mark of its own."""
    shared = archived
    if not archived.archive_url:
        shared = archived.model_copy(update={"archive_url": str(tmp_path / "shared")})
    await deliver(shared, 1)
    assert archive_once(tail, shared, now=MUCH_LATER)
    tail.flushdb()
    joining = shared.model_copy(update={"data_dir": tmp_path / "joining"})
    async with redis_async(joining, timeout=5) as redis:
        outbox = Outbox(redis, joining)
        assert not await outbox.look()
        with pytest.raises(QueueLost):
            await outbox.claim("one.test", channel="w#1", limit=1, now=NOON)
    assert tail.keys() == []


async def test_what_was_not_read_back_is_not_let_go(archived, tail, monkeypatch):
    """Of what a store gives back otherwise than it was given, nothing is trimmed and no content leaves."""
    mails = await deliver(archived, 2)
    store = type(Archive.open(archived).store)
    with monkeypatch.context() as broken:
        broken.setattr(store, "get", lambda *_: b"something else")
        assert archive_once(tail, archived, now=MUCH_LATER) == 0
    prefix = f"{{{archived.queue_prefix}}}"
    assert tail.xlen(f"{prefix}:events") == 4
    assert tail.get(f"{prefix}:c:{mails[0].message.id}") == mails[0].content
    assert not tail.get(f"{prefix}:archived")


async def test_what_was_written_damaged_is_written_again(archived, tail):
    """Also when whoever wrote it did not live to read it back: a name in the store vouches for nothing."""
    await deliver(archived, 2)
    archive_once(tail, archived, now=MUCH_LATER)
    archive = Archive.open(archived)
    (segment,) = archive.segments()
    tail.delete(f"{{{archived.queue_prefix}}}:archived")
    _damage(archive, segment)
    assert archive_once(tail, archived, now=MUCH_LATER) == 0
    (again,) = archive.segments()
    assert archive.is_whole(again)
    assert [each.event.number for each in archive.read(0, 10)] == [1, 2, 3, 4]
    assert tail.get(f"{{{archived.queue_prefix}}}:archived") == b"4"


async def test_a_damaged_segment_whose_events_are_gone_is_not_vouched_for(archived, tail):
    """It is an alarm, and nothing more leaves the queue."""
    await deliver(archived, 2)
    archive_once(tail, archived, now=MUCH_LATER)
    prefix = f"{{{archived.queue_prefix}}}"
    tail.delete(f"{prefix}:archived")
    tail.xtrim(f"{prefix}:events", maxlen=0)
    archive = Archive.open(archived)
    _damage(archive, archive.segments()[0])
    assert archive_once(tail, archived, now=MUCH_LATER) == 0
    assert not tail.get(f"{prefix}:archived")


async def test_one_machine_at_a_time(archived, tail):
    """Two would write segments that overlap. A machine that died in its turn holds nobody up for long."""
    await deliver(archived, 2)
    turn = f"{{{archived.queue_prefix}}}:archiving"
    tail.set(turn, "another machine's", px=60_000)
    assert archive_once(tail, archived, now=MUCH_LATER) == 0
    tail.delete(turn)
    assert archive_once(tail, archived, now=MUCH_LATER) == 4
    assert not tail.exists(turn)


async def test_an_archive_that_is_away_costs_memory_and_no_mail(archived, tail):
    """Nothing leaves the queue while nobody takes it; when the archive is back it goes on where it was."""
    url = "s3://bucket-that-nobody-made" if archived.archive_url else "/proc/nowhere"
    await deliver(archived, 2)
    assert archive_once(tail, archived.model_copy(update={"archive_url": url}), now=MUCH_LATER) == 0
    assert archive_once(tail, archived, now=MUCH_LATER) == 4


async def test_an_archive_that_was_written_and_not_noted(archived, tail):
    """Killed between the segment and the note, the chore believes the store and writes no event twice."""
    await deliver(archived, 2)
    archive_once(tail, archived, now=MUCH_LATER)
    tail.delete(f"{{{archived.queue_prefix}}}:archived")
    assert archive_once(tail, archived, now=MUCH_LATER) == 0
    assert tail.get(f"{{{archived.queue_prefix}}}:archived") == b"4"
    assert len(Archive.open(archived).segments()) == 1


async def test_a_damaged_segment_is_named(archived, tail):
    """What does not have the hash of its name is a gap, and so is a segment that somebody deleted."""
    await deliver(archived, 1)
    archive_once(tail, archived, now=MUCH_LATER)
    archive = Archive.open(archived)
    (segment,) = archive.segments()
    _damage(archive, segment)
    with pytest.raises(Gap, match="damaged"):
        archive.read(0, 10)
    archive.segments()
    archive.store.delete(segment.name)
    with pytest.raises(Gap, match="gone"):
        archive.read(0, 10)
    assert archive.read(0, 10) == []


async def test_old_segments_go_once_they_are_recorded(settings, tail):
    """Older than the retention and in the history: deleted from the oldest on. The newest always stays."""
    folder = settings.data_dir / "archive"
    for _ in range(4):
        await deliver(settings, 1)
        archive_once(tail, settings, now=MUCH_LATER)
    names = [segment.name for segment in Archive(folder).segments()]
    for name in (*names[:2], names[3]):
        os.utime(folder / name, (1, 1))
    now = clock.now()
    assert prune_archive(tail, settings, now=now) == 0, "the history has none of it"
    Progress(tail, settings).publish(8, "ok")
    assert prune_archive(tail, settings, now=now) == 0, "looked an hour ago at most"
    tail.delete(f"{{{settings.queue_prefix}}}:archive_pruned")
    Progress(tail, settings).publish(8, "foreign")
    assert prune_archive(tail, settings, now=now) == 0, "the right database may lack what this one has"
    tail.delete(f"{{{settings.queue_prefix}}}:archive_pruned")
    Progress(tail, settings).publish(8, "ok")
    assert prune_archive(tail, settings, now=now) == 2
    assert [segment.name for segment in Archive(folder).segments()] == names[2:]
    for name in names[2:]:
        os.utime(folder / name, (1, 1))
    tail.delete(f"{{{settings.queue_prefix}}}:archive_pruned")
    assert prune_archive(tail, settings, now=now) == 1
    assert [segment.name for segment in Archive(folder).segments()] == names[3:]
    tail.xtrim(f"{{{settings.queue_prefix}}}:events", maxlen=0)
    with pytest.raises(Gap, match="event 1 is missing"):
        EventSource(tail, settings).read(0, 10)


async def test_segments_that_overlap_are_read_once(settings, tail):
    """As two machines wrote them before there was one turn for all: a rebuild finds no gap in them."""
    await deliver(settings, 4)
    events = Tail(tail, settings.queue_prefix).read(0, 10)
    archive = Archive.open(settings)
    for some in (events[:4], events[:6], events[4:]):
        archive.write(some)
    with Facts(settings.data_dir) as facts:
        assert Sources(settings).read_archives(facts) == (8, [])
        assert sum(len(accounts) for accounts in facts.accounts()) == 4


async def test_what_tells_of_waiting_mail_stays(settings, tail):
    """Held or scheduled for longer than the retention: with it a queue that lost its memory has the mail back."""
    await deliver(settings, 1)
    archive_once(tail, settings, now=MUCH_LATER)
    async with redis_async(settings, timeout=5) as redis:
        await Outbox(redis, settings).append([an_entry(a_submission("waits@two.test")).arguments(NOON)])
    assert archive_once(tail, settings, now=MUCH_LATER) == 1
    for _ in range(2):
        await deliver(settings, 1)
        archive_once(tail, settings, now=MUCH_LATER)
    names = [segment.name for segment in Archive.open(settings).segments()]
    for name in names:
        os.utime(settings.data_dir / "archive" / name, (1, 1))
    Progress(tail, settings).publish(99, "ok")
    assert prune_archive(tail, settings, now=clock.now() + timedelta(days=400)) == 1
    assert [segment.name for segment in Archive.open(settings).segments()] == names[1:]


def test_without_boto3_a_folder_is_enough(settings, tmp_path):
    """Where no s3:// is asked for, its library is not loaded; an unset URL is a folder beside the journals."""
    assert isinstance(Archive.open(settings).store, FolderStore)
    elsewhere = Archive.open(settings.model_copy(update={"archive_url": str(tmp_path / "else")})).store
    assert isinstance(elsewhere, FolderStore)
    assert elsewhere.folder == tmp_path / "else"


async def test_an_unreachable_store_is_told_in_our_words(settings):
    """No exception of the library leaves the store."""
    endpoint = "http://127.0.0.1:1"
    store = Archive.open(settings.model_copy(update={"archive_url": "s3://b/p", "archive_endpoint": endpoint})).store
    with pytest.raises(ObjectsUnavailable):
        store.get("events-1.gz")
