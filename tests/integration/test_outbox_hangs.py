"""What hangs or fails in one place holds up nothing beside it."""

import asyncio
import os
import threading

import pytest

from outbox import journal as journals
from outbox import records
from outbox.errors import ObjectsUnavailable, TooLarge
from outbox.floors import Floors
from outbox.journal import Journal
from outbox.large_inlet import LargeInlet
from runtime.clock import now
from runtime.connections import redis_async
from tests.fixtures.acceptor import an_acceptor
from tests.fixtures.mail import a_submission
from tests.fixtures.waiting import until


def fresh(**fields):
    return a_submission(now=now(), **fields)


async def all_there(outbox, count):
    return len(await outbox.newest(limit=1000)) == count


@pytest.fixture
def gate():
    """Closed; what waits at it hangs, in a thread."""
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_journal_disk_that_hangs(settings, monkeypatch, gate):
    """The queue does for all, nothing more is written behind the one that hangs, and the journal comes back."""
    sync = os.fdatasync
    async with an_acceptor(settings.model_copy(update={"journal_way_every": 0})) as (acceptor, outbox):
        await acceptor.accept([fresh()])
        assert acceptor._journal.healthy
        with monkeypatch.context() as disk:
            disk.setattr(journals.os, "fdatasync", lambda handle: gate.wait() and sync(handle))
            for _ in range(3):
                async with asyncio.timeout(10):
                    await acceptor.accept([fresh()])
            assert not acceptor._journal.healthy
            assert acceptor.can_append
            gate.set()
            await until(lambda: acceptor._journal.healthy)
        await acceptor.accept([fresh()])
        assert await all_there(outbox, 5)


async def test_a_journal_disk_that_hangs_while_the_queue_is_away(own_valkey, monkeypatch, gate):
    """There is nobody else: accepting waits for it, and refuses nobody."""
    server, settings = own_valkey
    sync = os.fdatasync
    async with an_acceptor(settings) as (acceptor, outbox):
        server.pause()
        await acceptor.accept([fresh()])
        with monkeypatch.context() as disk:
            disk.setattr(journals.os, "fdatasync", lambda handle: gate.wait() and sync(handle))
            first = asyncio.create_task(acceptor.accept([fresh()]))
            await until(lambda: acceptor._journal._hangs)
            second = asyncio.create_task(acceptor.accept([fresh()]))
            gate.set()
            await asyncio.gather(first, second)
        server.resume()
        await until(lambda: acceptor._reinjector.left == 0)
        assert await all_there(outbox, 3)


async def test_a_journal_that_takes_no_marks(own_valkey, monkeypatch):
    """A full disk: what the journal alone has goes into the queue all the same, once each."""
    server, settings = own_valkey
    async with an_acceptor(settings) as (acceptor, outbox):
        server.pause()
        for _ in range(70):
            await acceptor.accept([fresh()])

        def full(*_, **__):
            raise OSError(28, "full")

        monkeypatch.setattr(acceptor._journal, "write", full)
        server.resume()
        await until(lambda: acceptor._reinjector.left == 0)
        assert await all_there(outbox, 70)


async def test_a_place_that_cannot_be_read_now(own_valkey, monkeypatch):
    """It is tried again; those behind it do not wait for it, nor does an accept by the journal."""
    server, settings = own_valkey
    async with an_acceptor(settings) as (acceptor, outbox):
        server.pause()
        for _ in range(5):
            await acceptor.accept([fresh()])
        sick, read = next(iter(acceptor._reinjector._places)), Journal.read

        def reading(journal, place):
            if place == sick:
                raise OSError(5, "input/output error")
            return read(journal, place)

        with monkeypatch.context() as disk:
            disk.setattr(Journal, "read", reading)
            server.resume()
            await until(lambda: acceptor._reinjector.left == 1)
            await acceptor._reinjector.caught_up(20)
            assert await all_there(outbox, 4)
            assert sick.segment in acceptor._reinjector.segments
        await until(lambda: acceptor._reinjector.left == 0)
        assert await all_there(outbox, 5)


async def test_a_store_of_large_contents_that_hangs(gate, monkeypatch):
    """Nothing piles up behind the threads that hang in it."""

    class Hanging:
        def put(self, *_):
            gate.wait()

    monkeypatch.setattr("outbox.large_inlet._PATIENCE", 0.05)
    monkeypatch.setattr("outbox.large_inlet._PAUSE", 0.0)
    inlet = LargeInlet(Hanging())
    for _ in range(8):
        with pytest.raises(ObjectsUnavailable):
            await inlet.put([fresh()])
    assert inlet._threads._work_queue.qsize() == 0
    gate.set()
    await until(lambda: not inlet._free.locked())
    await inlet.put([fresh()])
    inlet.stop()


async def test_a_disk_that_does_not_answer(settings, gate):
    """The others are looked at all the same, and a start does not wait for it."""

    def read_disk(folder):
        if folder.name == "journal":
            gate.wait()
        full = os.statvfs("/")
        return os.statvfs_result((*full[:4], 0, *full[5:]))

    async with redis_async(settings, timeout=5) as redis:
        floors = Floors(redis, settings, read_disk=read_disk)
        await floors.look_at_disks()
        gate.set()
        assert "disk of the queue" in floors.lacking


async def test_what_no_record_can_hold_is_refused(settings, monkeypatch):
    """Nothing is acknowledged that nobody could read back."""
    monkeypatch.setattr("outbox.accept.MOST_BLOB", 1000)
    async with an_acceptor(settings) as (acceptor, _):
        with pytest.raises(TooLarge):
            await acceptor.accept([fresh(content=b"x" * 600), fresh(content=b"y" * 600)])
    monkeypatch.setattr(records, "_MOST", 1000)
    with pytest.raises(ValueError, match="a record of"):
        records.encode({}, b"x" * 1000)


async def test_a_full_disk_is_not_given_a_file_by_each_try(tmp_path, monkeypatch):
    """A segment that took nothing goes."""
    journal = Journal(tmp_path)
    with monkeypatch.context() as disk:
        disk.setattr(journal, "_put", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
        for _ in range(3):
            with pytest.raises(OSError, match="full"):
                await journal.append({"kind": "x"})
    assert journal.segments() == []
    await journal.append({"kind": "x"})
    assert len(journal.segments()) == 1
    await journal.close()
