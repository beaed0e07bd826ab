"""The thread that flushes tells how it went, and keeps no handle."""

import asyncio
import os

import pytest

from outbox.flusher import Flusher


async def test_what_was_asked_for_is_flushed_and_closed(tmp_path, monkeypatch):
    """A failure is told to who asked, and leaves the thread alive for the next."""
    flushed, real = [], os.fdatasync

    def fdatasync(handle):
        flushed.append(handle)
        if len(flushed) == 1:
            raise OSError(5, "bad disk")
        real(handle)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    flusher = Flusher("test")
    told: asyncio.Queue[Exception | None] = asyncio.Queue()
    try:
        for name in ("one", "two"):
            flusher.flush(os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY), told.put_nowait)
        assert str(await told.get()) == "[Errno 5] bad disk"
        assert await told.get() is None
    finally:
        flusher.stop()
    assert len(flushed) == 2
    for handle in flushed:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handle)
