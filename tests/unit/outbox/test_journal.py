"""The journal keeps what it acknowledged, whatever the disk does."""

import asyncio
import errno
import os
import threading

import pytest

from outbox.journal import LARGE, Journal, read_segment


async def reopened(journal):
    await journal.close()
    return Journal(journal.folder)


def bodies(journal):
    return [blob for _, _, blob in journal.replay()]


async def test_records_are_found_again(tmp_path):
    """What was appended is replayed in order after a restart, header and blob."""
    journal = Journal(tmp_path)
    await journal.append({"kind": "a"}, b"one")
    await journal.append({"kind": "b"}, b"\x00" * 100_000)
    again = await reopened(journal)
    assert [(h["kind"], len(b)) for _, h, b in again.replay()] == [("a", 3), ("b", 100_000)]
    await again.close()


async def test_concurrent_appends_share_fdatasync(tmp_path, monkeypatch):
    """A hundred appends of one turn cost a handful of fdatasyncs, not a hundred."""
    calls = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (calls.append(fd), real(fd)))
    journal = Journal(tmp_path)
    await asyncio.gather(*(journal.append({"n": n}) for n in range(100)))
    assert len(calls) <= 3
    await journal.close()


async def test_an_fdatasync_begins_with_its_append_and_ends_before_the_journal_does(tmp_path, monkeypatch):
    """No turn of the loop lies between, and closing waits for those under way and behind it."""
    begun, gate, real = threading.Event(), threading.Event(), os.fdatasync

    def fdatasync(handle):
        begun.set()
        gate.wait(5)
        real(handle)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    journal = Journal(tmp_path)
    _, first = journal.begin([({}, b"one"), ({}, b"two")])
    assert begun.wait(5)
    _, second = journal.begin([({}, b"three")])
    gate.set()
    again = await reopened(journal)
    assert first.done()
    assert second.done()
    assert bodies(again) == [b"one", b"two", b"three"]
    await again.close()


async def test_torn_tail_is_ignored(tmp_path):
    """A record cut short by a crash ends its segment; what was before it is kept."""
    journal = Journal(tmp_path)
    await journal.append({}, b"whole")
    place = await journal.append({}, b"torn")
    await journal.close()
    os.truncate(place.segment, place.segment.stat().st_size - 2)
    again = Journal(tmp_path)
    assert bodies(again) == [b"whole"]
    await again.append({}, b"next")
    last = await reopened(again)
    assert bodies(last) == [b"whole", b"next"]
    await last.close()


async def test_damaged_record_is_not_believed(tmp_path):
    """A flipped bit fails the checksum."""
    journal = Journal(tmp_path)
    place = await journal.append({}, b"A" * 50)
    await journal.close()
    octets = bytearray(place.segment.read_bytes())
    octets[-1] ^= 1
    place.segment.write_bytes(octets)
    assert list(read_segment(place.segment)) == []


async def test_failed_fdatasync_rolls_and_writes_again(tmp_path, monkeypatch):
    """After an EIO the segment is left for good, and what it may have lost is written into a new one."""
    real, failures = os.fdatasync, [OSError(errno.EIO, "broken")]

    def fdatasync(fd):
        if failures:
            raise failures.pop()
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    journal = Journal(tmp_path)
    first = await journal.append({}, b"one")
    await journal.append({}, b"two")
    assert journal.healthy
    first.segment.unlink()  # the disk lost it all
    again = await reopened(journal)
    assert bodies(again) == [b"one", b"two"]
    await again.close()


async def test_full_disk_is_an_error_and_then_heals(tmp_path, monkeypatch):
    """An append that cannot be written raises; earlier unsynced records are not forgotten; later ones work."""
    real, full = os.write, []

    def write(fd, data):
        if full:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    journal = Journal(tmp_path)
    journal.write({}, b"unsynced")
    full.append(True)
    with pytest.raises(OSError, match="full"):
        await journal.append({}, b"refused")
    assert not journal.healthy
    full.clear()
    await journal.append({}, b"later")
    assert journal.healthy
    again = await reopened(journal)
    assert {b"unsynced", b"later"} <= set(bodies(again))
    assert b"refused" not in bodies(again)
    await again.close()


async def test_segments_roll_by_size_and_are_read_by_place(tmp_path):
    """Small segments roll; every place still leads to its record."""
    journal = Journal(tmp_path, segment_bytes=200)
    places = [await journal.append({"n": n}, b"x" * 100) for n in range(6)]
    assert len(journal.segments()) > 1
    assert [journal.read(place)[0]["n"] for place in places] == list(range(6))
    assert set(journal.closed_segments) < set(journal.segments())
    await journal.close()


async def test_folder_has_one_writer(tmp_path):
    """Two processes cannot write the same journal."""
    journal = Journal(tmp_path)
    with pytest.raises(BlockingIOError):
        Journal(tmp_path)
    await journal.close()


async def test_zeros_at_the_end_are_a_torn_tail(tmp_path):
    """After a power cut a file may be longer than what was written, and zeros would pass for an empty record."""
    journal = Journal(tmp_path / "j")
    place = await journal.append({"n": 0}, b"blob")
    await journal.close()
    with place.segment.open("ab") as stream:
        stream.write(bytes(4096))
    assert [header for _, header, _ in read_segment(place.segment)] == [{"n": 0}]


async def test_a_large_record_lies_alone(tmp_path):
    """In a segment of its own, beside which small ones share theirs; all of it is found again."""
    journal = Journal(tmp_path)
    small = await journal.append({"n": 1}, b"small")
    large = await journal.append({"n": 2}, b"x" * (LARGE + 1))
    after = await journal.append({"n": 3}, b"small")
    assert small.segment == after.segment != large.segment
    assert journal.read(large) == ({"n": 2}, b"x" * (LARGE + 1))
    assert set(journal.closed_segments) == {large.segment}
    await journal.close()
    again = Journal(tmp_path)
    assert sorted(header["n"] for _, header, _ in again.replay()) == [1, 2, 3]
    newest = await again.append({"n": 4})
    assert newest.segment > large.segment
    await again.close()


async def test_a_large_record_that_failed_leaves_nothing(tmp_path, monkeypatch):
    """It may be what fills the disk. Small ones go on."""
    journal = Journal(tmp_path)

    def full(*_):
        raise OSError(28, "full")

    monkeypatch.setattr("outbox.journal._write_whole", full)
    with pytest.raises(OSError, match="full"):
        await journal.append({"n": 1}, b"x" * (LARGE + 1))
    assert journal.segments() == []
    await journal.append({"n": 2})
    await journal.close()
