"""Large contents beside the queue: durable before the yes, whole when they are sent, gone when nobody needs them."""

import asyncio
import errno
import os
import shutil
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from outbox.accept import Idempotency
from outbox.audit import Audit
from outbox.blob_sweep import sweep_blobs
from outbox.blobs import LARGE, Blobs, name_of
from outbox.errors import BlobLost
from outbox.floors import Floors
from outbox.inlet import Inlet, Unconfirmed
from outbox.message import Message
from outbox.object_store_folder import FolderStore
from outbox.packing import packed
from outbox.states import State
from outbox.stream import EventSource
from runtime import clock
from tests.fixtures.machine import running
from tests.fixtures.mail import a_submission
from tests.fixtures.object_store import BUCKET
from tests.fixtures.waiting import until

CONTENT = b"Subject: Large\r\n\r\n" + b"line\r\n" * 100_000
LATER = timedelta(days=2)


@pytest.fixture(params=["folder", "s3"])
def stored(request, settings):
    """Settings with a store of each kind."""
    if request.param == "folder":
        return settings
    endpoint = request.getfixturevalue("s3_endpoint")
    url = f"s3://{BUCKET}/{settings.queue_prefix}/{settings.data_dir.parent.name}"
    return settings.model_copy(update={"blob_url": url, "blob_endpoint": endpoint})


@pytest.fixture
async def machine(settings):
    async with running(settings) as machine:
        yield machine


def names(machine):
    return list(machine.outbox.blobs.store.names())


def folder(machine):
    return Path(machine.settings.blobs)


async def queue_octets(machine, message_id):
    return await machine.redis.strlen(f"{{{machine.settings.queue_prefix}}}:c:{message_id}")


def sweep(machine, *, after=timedelta(0)):
    machine.blocking.delete(f"{{{machine.settings.queue_prefix}}}:blobs_swept")
    return sweep_blobs(machine.blocking, machine.settings, now=clock.now() + after)


async def message_of(machine, message_id) -> Message:
    return (await machine.outbox.find(message_id)).message


async def read(machine, message_id):
    with closing(machine.outbox.blobs.open(await message_of(machine, message_id))) as blob:
        return blob.read()


async def test_a_large_content_lies_beside_the_queue(stored):
    """In the store and in the journal before the yes, and not in Redis; small ones as ever. Either limit is exact."""
    async with running(stored) as machine:
        large = await machine.accept("ann@one.test", content=CONTENT)
        small = await machine.accept("ann@one.test", content=b"x" * LARGE)
        assert names(machine) == [name_of(await message_of(machine, large))]
        assert await queue_octets(machine, large) == 0
        assert await queue_octets(machine, small) == len(packed(b"x" * LARGE)) > 0
        assert await read(machine, large) == CONTENT
        assert (await machine.outbox.find(large, content=True)).content == CONTENT
    journals = stored.data_dir / "journal" / "api-1"
    assert any(CONTENT in segment.read_bytes() for segment in journals.glob("*.log"))


async def test_it_is_archived_recorded_and_deleted_when_it_has_ended(stored):
    """The archive gets it whole, the recorder finds it before and after; the sweep deletes it behind the archive."""
    async with running(stored) as machine:
        message_id = await machine.accept("ann@one.test", content=CONTENT)
        source = EventSource(machine.blocking, machine.settings)
        assert [recorded.content for recorded in source.read(0, 1)] == [CONTENT]
        await machine.attempt(message_id, State.DELIVERED)
        assert sweep(machine, after=LATER) == 0, "it has ended, and is not archived"
        assert machine.archive() == 2
        assert sweep(machine) == 1
        assert names(machine) == []
        assert [recorded.content for recorded in source.read(0, 1)] == [CONTENT]
        assert (await machine.outbox.find(message_id, content=True)).content == CONTENT


async def test_what_waits_is_kept_and_what_nobody_knows_goes_after_a_day(machine):
    """An accept that died between store and queue leaves an orphan; a lost queue makes orphans of nothing."""
    message_id = await machine.accept("ann@one.test", content=CONTENT)
    orphan = a_submission(content=CONTENT, blob="f" * 64)
    machine.outbox.blobs.put(orphan.message, CONTENT)
    assert sweep(machine, after=timedelta(hours=1)) == 0
    with machine.blocking.pipeline() as pipe:
        kept = {key: machine.blocking.dump(key) for key in machine.blocking.scan_iter()}
        machine.blocking.flushdb()
        assert sweep(machine, after=LATER) == 0
        machine.blocking.flushdb()
        for key, value in kept.items():
            pipe.restore(key, 0, value)
        pipe.execute()
    assert sweep(machine, after=LATER) == 1
    assert names(machine) == [name_of(await message_of(machine, message_id))]


async def test_a_repeat_with_its_key_does_not_touch_the_content(machine):
    """The repeat was composed anew, with another Date; what is sent is what was promised first."""
    key = Idempotency("POST /emails", "k", "same")
    (minted,) = machine.acceptor.mint(1, key)
    first, second = CONTENT + b"first\r\n", CONTENT + b"second\r\n"
    for content, replayed in ((first, False), (second, True)):
        submission = a_submission("ann@one.test", now=clock.now(), id=minted, content=content)
        assert (await machine.acceptor.accept([submission], key)).replayed is replayed
    assert await read(machine, minted) == first
    assert sweep(machine, after=LATER) == 1
    assert await read(machine, minted) == first


async def test_a_sick_store_refuses_nobody(machine, monkeypatch):
    """The journal takes large mail alone; with the store back it is put there and into the queue, once."""
    monkeypatch.setattr("outbox.large_inlet._PAUSE", 0.0)
    folder(machine).write_text("where the folder should be")
    large = await machine.accept("ann@one.test", content=CONTENT)
    small = await machine.accept("bob@one.test")
    assert await machine.outbox.find(large) is None
    assert await machine.states(small) == (State.QUEUED,)
    folder(machine).unlink()
    await until(lambda: machine.outbox.find(large))
    assert await read(machine, large) == CONTENT


async def test_a_full_disk_of_the_store_refuses_nobody(machine, monkeypatch):
    """ENOSPC in the middle of writing: no half content bears the name, and the journal has the mail."""
    monkeypatch.setattr("outbox.large_inlet._PAUSE", 0.0)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("outbox.object_store_folder.os", SimpleNamespace(getpid=os.getpid, fsync=full))
        large = await machine.accept("ann@one.test", content=CONTENT)
        assert names(machine) == []
        assert await machine.outbox.find(large) is None
    await until(lambda: machine.outbox.find(large))
    assert await read(machine, large) == CONTENT


async def test_death_between_journal_and_queue(settings, monkeypatch):
    """What only the journal has when the process dies is put by the next life, contents and all, and only once."""

    async def away(*_):
        raise Unconfirmed

    with monkeypatch.context() as broken:
        broken.setattr(Inlet, "_append", away)
        async with running(settings) as machine:
            await machine.accept("ann@one.test", content=CONTENT)
    async with running(settings) as machine:
        await until(lambda: machine.outbox.newest(limit=5))
        (view,) = await machine.outbox.newest(limit=5)
        assert await read(machine, view.message.id) == CONTENT
        await machine.attempt(view.message.id, State.DELIVERED)
        await machine.redis.delete(f"{{{settings.queue_prefix}}}:m:{view.message.id}")  # as after its retention
    async with running(settings) as machine:
        await machine.acceptor._reinjector.caught_up(5)
        assert await machine.outbox.newest(limit=5) == [], "its mark may lie before it in the journal, and counts"


@pytest.mark.parametrize("damage", ["gone", "flipped"])
async def test_the_journal_heals_the_store(machine, damage):
    """Missing or altered, the content comes from this machine's journal, and is in the store again."""
    message_id = await machine.accept("ann@one.test", content=CONTENT)
    path = folder(machine) / names(machine)[0]
    if damage == "gone":
        path.unlink()
    else:
        octets = bytearray(path.read_bytes())
        octets[len(octets) // 2] ^= 1
        path.write_bytes(octets)
    assert machine.outbox.blobs.read(await message_of(machine, message_id)) is None
    assert await read(machine, message_id) == CONTENT
    assert path.read_bytes() == CONTENT
    path.unlink()
    shutil.rmtree(machine.settings.data_dir / "journal" / "api-1")
    with pytest.raises(BlobLost):
        await read(machine, message_id)


async def test_a_rebuild_brings_contents_back(machine):
    """Queue and store lost together: the journals have every content. What has ended needs none."""
    waits = await machine.accept("ann@one.test", content=CONTENT)
    ended = await machine.accept("ann@two.test", content=CONTENT)
    await machine.attempt(ended, State.DELIVERED)
    await machine.redis.flushdb()
    shutil.rmtree(folder(machine))
    assert (await machine.rebuild()).waiting == 1
    assert await read(machine, waits) == CONTENT
    (claim,) = await machine.outbox.claim("one.test", channel="w", limit=9, now=clock.now())
    assert (claim.message.id, claim.content) == (waits, b"")


async def test_the_audit_misses_a_content(machine):
    """A live message without its content is told, and put right from the journal; ended ones need none."""
    waits = await machine.accept("ann@one.test", content=CONTENT)
    ended = await machine.accept("ann@two.test", content=CONTENT)
    await machine.attempt(ended, State.DELIVERED)

    def audit(**how):
        return Audit(machine.blocking, machine.settings, now=clock.now()).run(**how)

    assert audit().holds
    for name in names(machine):
        (folder(machine) / name).unlink()
    found = audit()
    assert (found.holds, found.without_content, found.unaccounted) == (False, 1, 0)
    assert audit(repair=True).repaired == 1
    assert audit().holds
    assert await read(machine, waits) == CONTENT


async def test_the_disk_of_the_store_has_a_floor(machine):
    """Below it nothing is accepted, as with the disks of journal and queue; a store elsewhere minds its own disk."""
    full = folder(machine)
    full.mkdir()

    def disk(path):
        fields = list(os.statvfs(path))
        if path == full:
            fields[4] = 0  # f_bavail
        return os.statvfs_result(fields)

    floors = Floors(machine.redis, machine.settings, read_disk=disk)
    await floors.look_at_disks()
    assert floors.lacking == "disk of the large contents: bytes"
    remote = machine.settings.model_copy(update={"blob_url": "s3://b/p"})
    floors = Floors(machine.redis, remote, read_disk=disk)
    await floors.look_at_disks()
    assert floors.lacking == ""


async def test_a_queue_elsewhere_keeps_its_contents_unless_told(settings):
    """Another machine cannot read a folder of this one: without a common place large contents stay in the queue."""
    assert settings.blobs == str(settings.data_dir / "blobs")
    elsewhere = settings.model_copy(update={"redis_url": type(settings.redis_url)("redis://queue.example:6379/0")})
    assert elsewhere.blobs == ""
    assert not Blobs(elsewhere).enabled
    assert elsewhere.model_copy(update={"blob_url": "/shared/blobs"}).blobs == "/shared/blobs"


async def test_the_loop_turns_while_a_large_mail_is_taken(machine):
    """Hashing, writing and syncing are done in threads: the loop makes thousands of turns meanwhile, not a handful."""
    accept = asyncio.create_task(machine.accept("ann@one.test", content=b"x" * 16_000_000))
    turns = 0
    while not accept.done():
        turns += 1
        await asyncio.sleep(0)
    await accept
    assert turns > 200


def test_a_name_never_leads_to_half_an_object(tmp_path, monkeypatch):
    """Killed while writing, the folder shows nothing; what was there before stays."""
    store = FolderStore(tmp_path, suffix=".eml")
    store.put("a.eml", b"whole")
    monkeypatch.setattr("outbox.object_store_folder.os.fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.put("a.eml", b"other")
    with pytest.raises(KeyboardInterrupt):
        store.put("b.eml", b"other")
    assert list(store.names()) == ["a.eml"]
    assert store.get("a.eml") == b"whole"
