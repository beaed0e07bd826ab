"""What a machine remembers of its queue, and when it says that this is another one."""

import fakeredis
import pytest

from outbox.entry import Entry
from outbox.errors import ObjectsUnavailable
from outbox.generation import REBUILDING, Memory, Remembered
from outbox.journal import Journal
from outbox.object_store_folder import FolderStore
from runtime.settings import Settings
from tests.fixtures.mail import a_submission


@pytest.fixture
async def redis():
    redis = fakeredis.FakeAsyncRedis()
    yield redis
    await redis.aclose()


@pytest.fixture
def memory(tmp_path):
    return Memory(Settings(data_dir=tmp_path, queue_prefix="nm"))


async def test_a_new_stack_gives_the_queue_its_mark(memory, redis):
    """Nothing is remembered and nothing is there: whoever looks first sets the mark, and remembers it."""
    assert memory.fence is None
    assert await memory.look(redis)
    mark = (await redis.get("{nm}:generation")).decode()
    assert memory.fence == f"{{nm}}:mark:{mark}:0"


async def test_a_new_machine_takes_the_mark_that_is_there(memory, redis):
    """A machine that joins, or lost its disk, works with the queue as it is."""
    await redis.mset({"{nm}:generation": "m", "{nm}:seq": 7})
    assert await memory.look(redis)
    assert memory.remembered == Remembered("m", 7)


@pytest.mark.parametrize(
    "change",
    [
        {"{nm}:generation": "another", "{nm}:seq": 8},
        {"{nm}:seq": 6},  # an old file restored
        {"{nm}:generation": REBUILDING + "m"},
    ],
)
async def test_another_queue_is_recognised(memory, redis, change):
    """Another mark, or too low a number: not the queue we fed, and not to be taken for it later."""
    await redis.mset({"{nm}:generation": "m", "{nm}:seq": 7})
    assert await memory.look(redis)
    await redis.mset(change)
    assert not await memory.look(redis)
    assert memory.remembered == Remembered("m", 7)


async def test_an_emptied_queue_is_recognised(memory, redis):
    """No mark at all is not the first start again: this disk remembers."""
    assert await memory.look(redis)
    await redis.flushall()
    assert not await memory.look(redis)


async def test_numbers_only_grow(memory, redis, tmp_path):
    """Several processes share the file; the highest number any of them saw is kept, across their lives."""
    await redis.mset({"{nm}:generation": "m", "{nm}:seq": 7, "{nm}:archived": 3})
    other = Memory(Settings(data_dir=tmp_path, queue_prefix="nm"))
    assert await memory.look(redis)
    await redis.set("{nm}:seq", 9)
    assert await other.look(redis)
    assert memory.remembered == Remembered("m", 9, 3)


async def test_a_past_without_a_mark_is_a_loss(memory, redis, tmp_path):
    """The disk shows that some queue had this mail; an empty one is not the first one then."""
    journal = Journal(tmp_path / "journal" / "api-1")
    await journal.append(*Entry.plain([a_submission()]).record(confirmed=True))
    assert not await memory.look(redis)
    assert await redis.get("{nm}:generation") is None
    await journal.close()


async def test_mail_taken_before_the_first_queue_is_no_past(memory, redis, tmp_path):
    """A queue that is late at the very first start finds journals with unconfirmed mail, and is new all the same."""
    journal = Journal(tmp_path / "journal" / "api-1")
    await journal.append(*Entry.plain([a_submission()]).record(confirmed=False))
    assert await memory.look(redis)
    await journal.close()


async def test_a_new_machine_asks_the_archive_for_the_past(redis, tmp_path):
    """It has no journals, but all machines share the archive: an emptied queue gets no fresh mark from it."""
    FolderStore(tmp_path / "shared", suffix=".gz").put("events-1-2-0123456789abcdef.gz", b"")
    memory = Memory(Settings(data_dir=tmp_path / "new", queue_prefix="nm", archive_url=str(tmp_path / "shared")))
    assert not await memory.look(redis)
    assert await redis.get("{nm}:generation") is None


async def test_an_archive_that_does_not_answer_leaves_it_open(memory, redis, monkeypatch):
    """Nobody knows whether there is a past: nothing is done in the queue, and the next look asks again."""

    def away(*_):
        raise ObjectsUnavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(FolderStore, "names", away)
        assert not await memory.look(redis)
        assert memory.remembered is None
        assert memory.fence == "{nm}:mark:unsure:0"
        assert await redis.get("{nm}:generation") is None
    assert await memory.look(redis)
    assert (await redis.get("{nm}:generation")).decode() in memory.fence
