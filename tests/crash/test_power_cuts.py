"""The power of a disk is cut under queue and journal while mail is accepted at full speed."""

import os
from pathlib import Path

import pytest

from faults.figures import met
from faults.load import Load
from faults.power.disk import LoopDisk, NoDisk
from faults.power.many import cuts
from faults.runs import Setup


@pytest.fixture
def _disks(tmp_path):
    """Skips where no disk of our own can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk of our own takes root")
    try:
        with LoopDisk(tmp_path / "probe"):
            pass
    except NoDisk as reason:
        pytest.skip(f"no disk of our own: {reason}")


@pytest.mark.usefixtures("_disks")
def test_what_was_synced_survives_and_the_rest_does_not(tmp_path):
    """The cut is a real one: a file that nobody forced out is gone or empty, one that was synced is whole."""
    with LoopDisk(tmp_path / "power") as disk:
        synced, not_synced = disk.root / "synced", disk.root / "not-synced"
        for path in (synced, not_synced):
            path.write_bytes(b"words")
        with synced.open("rb") as stream:
            os.fsync(stream.fileno())
        with not_synced.open("ab") as stream:
            stream.write(b" and more words")
        disk.cut()
        with pytest.raises(OSError, match="Input/output error"):
            Path(disk.root / "late").write_text("too late")
        disk.restore()
        assert synced.read_bytes() == b"words"
        assert not not_synced.exists() or not_synced.read_bytes() == b""


@pytest.mark.usefixtures("_disks")
def test_nothing_acknowledged_is_lost_by_power_cuts(tmp_path):
    """Two cuts, one of them with the queue hung: every acknowledged id is in the queue or in a journal."""
    result = cuts(2, deliver=False)(Setup(Load(1, 1), tmp_path))
    assert met(result.figures), result
