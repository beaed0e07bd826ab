"""Events, archive and retirement: nothing is skipped, and memory is given back without the database."""

from datetime import timedelta

import pytest

from outbox.archive import Archive
from outbox.archiving import archive_once
from outbox.errors import Gap
from outbox.retire import retire_once
from outbox.stream import EventSource, Progress
from tests.fixtures import delivered
from tests.fixtures.delivered import deliver
from tests.fixtures.mail import NOON

tail = delivered.tail
MUCH_LATER = NOON + timedelta(hours=1)


def test_nothing_happened_yet(tail, settings):
    """An empty queue has no events and no gap."""
    assert EventSource(tail, settings).read(0, 10) == []


async def test_events_come_in_order_with_contents(tail, settings):
    """The recorder gets consecutive numbers, and the content with each accepted message."""
    mails = await deliver(settings, 3)
    read = EventSource(tail, settings).read(0, 100)
    assert [r.event.number for r in read] == list(range(1, 7))
    contents = {r.event.fields["id"]: r.content for r in read if r.event.kind == "accepted"}
    assert contents == {m.message.id: m.content for m in mails}


@pytest.fixture
def little_room(tail):
    """Call it, and half of the memory that the queue may use is used."""
    yield lambda: tail.config_set("maxmemory", 2 * tail.info("memory")["used_memory"])
    tail.config_set("maxmemory", 0)


async def test_archive_waits_for_age(tail, settings):
    """Young events stay in the stream; older ones are archived."""
    await deliver(settings, 2)
    assert archive_once(tail, settings, now=NOON + timedelta(seconds=29)) == 0
    assert archive_once(tail, settings, now=NOON + timedelta(seconds=30)) == 4
    assert archive_once(tail, settings, now=MUCH_LATER) == 0


async def test_archive_takes_much_at_once_where_memory_is_wanted(tail, settings, little_room):
    """A full segment need not be old then; a few events are never worth one."""
    await deliver(settings, 2)
    little_room()
    assert archive_once(tail, settings, now=NOON) == 0
    await deliver(settings, 8, weight=1_100_000)
    little_room()
    assert archive_once(tail, settings, now=NOON) == 20


async def test_archive_waits_with_much_while_there_is_room(tail, settings):
    """Whoever is busy with mail goes first, until too many events wait."""
    await deliver(settings, 8, weight=1_100_000)
    assert archive_once(tail, settings, now=NOON) == 0
    tail.incrby(f"{{{settings.queue_prefix}}}:seq", 50_000)
    assert archive_once(tail, settings, now=NOON) == 16


async def test_archive_leaves_to_a_recorder_in_step_what_it_reads_next(tail, settings):
    """Behind one that waits for its database, or that says nothing any more, everything is archived."""
    await deliver(settings, 3)
    recorder = Progress(tail, settings, now=lambda: MUCH_LATER)
    recorder.publish(2, "ok")
    assert archive_once(tail, settings, now=MUCH_LATER) == 2
    assert archive_once(tail, settings, now=MUCH_LATER) == 0
    recorder.publish(3, "ok")
    assert archive_once(tail, settings, now=MUCH_LATER) == 1
    recorder.publish(3, "waiting", "the database is away")
    assert archive_once(tail, settings, now=MUCH_LATER) == 3
    await deliver(settings, 1)
    recorder.publish(6, "ok")
    assert archive_once(tail, settings, now=MUCH_LATER + timedelta(minutes=1)) == 2


async def test_ended_messages_are_forgotten_behind_the_archive(tail, settings):
    """Memory is given back once events are archived, and the recorder still reads everything, contents too."""
    mails = await deliver(settings, 3)
    assert retire_once(tail, settings, now=MUCH_LATER) == 0, "not archived yet"
    archive_once(tail, settings, now=MUCH_LATER)
    tail.xtrim(f"{{{settings.queue_prefix}}}:events", maxlen=0)
    assert retire_once(tail, settings, now=NOON) == 0, "ended a moment ago"
    assert retire_once(tail, settings, now=MUCH_LATER) == 3
    left = {key.decode().partition(":")[2] for key in tail.keys(f"{{{settings.queue_prefix}}}:[mc]:*")}
    assert left == set()
    read = EventSource(tail, settings).read(0, 100)
    assert [r.event.number for r in read] == list(range(1, 7))
    assert [r.content for r in read if r.event.kind == "accepted"] == [m.content for m in mails]
    assert EventSource(tail, settings).read(6, 100) == []


async def test_content_that_left_the_queue_is_read_from_the_archive(tail, settings):
    """The stream may outlive the content: then the archive has it."""
    (mail,) = await deliver(settings, 1)
    archive_once(tail, settings, now=MUCH_LATER)
    retire_once(tail, settings, now=MUCH_LATER)
    (accepted, _) = EventSource(tail, settings).read(0, 100)
    assert accepted.content == mail.content


async def test_missing_events_are_named(tail, settings):
    """A hole between archive and stream is an error that names the number, never a silent skip."""
    await deliver(settings, 3)
    tail.xtrim(f"{{{settings.queue_prefix}}}:events", minid="4-0", approximate=False)
    with pytest.raises(Gap, match="event 1 is missing, the next one is 4"):
        EventSource(tail, settings).read(0, 100)
    tail.xdel(f"{{{settings.queue_prefix}}}:events", "5-0")
    assert [r.event.number for r in EventSource(tail, settings).read(3, 100)] == [4]
    with pytest.raises(Gap, match="event 5 is missing, the next one is 6"):
        EventSource(tail, settings).read(4, 100)


async def test_queue_that_forgot_is_noticed(tail, settings):
    """A queue that knows fewer events than were recorded lost its memory."""
    await deliver(settings, 1)
    with pytest.raises(Gap, match="event 100 is missing"):
        EventSource(tail, settings).read(99, 10)


async def test_damaged_segment_is_not_believed(tail, settings):
    """A segment whose hash is wrong is refused."""
    await deliver(settings, 1)
    archive_once(tail, settings, now=MUCH_LATER)
    folder = settings.data_dir / "archive"
    (segment,) = Archive(folder).segments()
    octets = bytearray((folder / segment.name).read_bytes())
    octets[20] ^= 1
    (folder / segment.name).write_bytes(octets)
    with pytest.raises(Gap, match="damaged"):
        Archive(folder).read(0, 10)


async def test_recorder_progress_is_read_back(tail, settings):
    """What the recorder says of itself reaches the backlog."""
    progress = Progress(tail, settings)
    assert progress.read().state == "unknown"
    progress.publish(7, "waiting", "connection refused")
    seen = progress.read()
    assert (seen.checkpoint, seen.state, seen.error) == (7, "waiting", "connection refused")
