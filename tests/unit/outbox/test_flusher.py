"""The thread that flushes tells how it went, and keeps no handle."""

import os

import pytest

from outbox.flusher import Flusher


async def test_what_was_asked_for_is_flushed_and_closed(tmp_path, monkeypatch):
    """A failure is raised by its own future and leaves the thread alive for the next."""
    flushed, real = [], os.fdatasync

    def fdatasync(handle):
        flushed.append(handle)
        if len(flushed) == 1:
            raise OSError(5, "bad disk")
        real(handle)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    flusher = Flusher("test")
    try:
        with pytest.raises(OSError, match="bad disk"):
            await flusher.flush(os.open(tmp_path / "one", os.O_CREAT | os.O_WRONLY))
        await flusher.flush(os.open(tmp_path / "two", os.O_CREAT | os.O_WRONLY))
    finally:
        flusher.stop()
    assert len(flushed) == 2
    for handle in flushed:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handle)
