"""The key of a local stack, and a queue that lost its memory: nothing is written into it by a start."""

import pytest

from nightmail.client_details import ClientDetails, keep
from nightmail.complaint import Complaint
from nightmail.operator_key import ensure_key
from nightmail.stack_folder import StackFolder
from outbox.object_store_folder import FolderStore
from runtime.connections import redis_sync


def start(settings):
    """A start of the stack, as far as its key; sync, as `up` is."""
    folder = StackFolder(settings.data_dir)
    settings.data_dir.mkdir(exist_ok=True)
    token = ensure_key(settings, folder)
    keep(folder, ClientDetails.of(settings, token))
    return token


def test_an_emptied_queue_is_not_begun_anew(settings):
    """The key of the last start stands, since each process has it on its disk; the queue stays as it was found."""
    token = start(settings)
    assert start(settings) == token
    with redis_sync(settings) as queue:
        queue.flushdb()
        assert start(settings) == token
        assert queue.keys() == []


def test_a_new_machine_does_not_begin_an_emptied_queue_anew(settings, tmp_path):
    """Its first start finds no mark and an archive with a past: it says what is to be done, and writes nothing."""
    FolderStore(tmp_path / "shared", suffix=".gz").put("events-000000000001-000000000002-0123456789abcdef.gz", b"")
    joining = settings.model_copy(update={"archive_url": str(tmp_path / "shared")})
    with pytest.raises(Complaint, match="nightmail rebuild queue"):
        start(joining)
    with redis_sync(settings) as queue:
        assert queue.keys() == []
