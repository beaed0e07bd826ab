"""Journals that nobody writes to any more: what only they hold is put into the queue, once, by one who takes over."""

import asyncio

import pytest

from nightmail.commands.audit import _words
from outbox.adopt import Adopter, abandoned, adopt_all
from outbox.audit import Audit
from outbox.entry import Entry
from outbox.journal import Journal
from runtime import clock
from tests.fixtures.machine import running
from tests.fixtures.mail import a_submission

MINUTE = 61.0


@pytest.fixture
async def machine(settings):
    async with running(settings) as machine:
        yield machine


async def left_behind(data_dir, *, count=3):
    """The journal of a process that died while the queue was away; the ids that only it has."""
    journal = Journal(data_dir / "journal" / "api-2")
    mails = [a_submission(now=clock.now()) for _ in range(count)]
    for mail in mails:
        await journal.append(*Entry.plain([mail]).record(confirmed=False))
    await journal.close()
    return {mail.message.id for mail in mails}


async def queued(machine):
    return {view.message.id for view in await machine.outbox.newest(limit=100)}


async def test_a_sibling_takes_over_after_a_minute(machine):
    """Not before: a process that only died comes back to its own. Once: what is put is marked where it lies."""
    ids, now = await left_behind(machine.settings.data_dir), [0.0]
    adopter = Adopter(machine.inlet, machine.settings, clock=lambda: now[0])
    assert await adopter.look() == 0
    now[0] = MINUTE
    assert await adopter.look() == 3
    assert await queued(machine) == ids
    another = Adopter(machine.inlet, machine.settings)
    assert await another.adopt(machine.settings.data_dir / "journal" / "api-2") == (0, 0)


async def test_a_journal_has_one_who_takes_over(machine):
    """Two at the same time put everything once; one that has a writer is left alone, and so are workers' journals."""
    ids = await left_behind(machine.settings.data_dir, count=20)
    folder = machine.settings.data_dir / "journal" / "api-2"
    assert abandoned([machine.settings.data_dir]) == [folder]
    both = [Adopter(machine.inlet, machine.settings).adopt(folder) for _ in range(2)]
    assert sorted(await asyncio.gather(*both)) == [(0, 0), (20, 0)]
    assert await queued(machine) == ids
    assert len(machine.events()) == 20
    writer = Journal(folder)
    assert abandoned([machine.settings.data_dir]) == []
    await writer.close()


async def test_a_lost_queue_gets_nothing(machine, settings):
    """What is in an abandoned journal stays there until the rebuild, which reads it too."""
    await left_behind(settings.data_dir)
    await machine.redis.flushdb()
    assert await adopt_all(settings, [settings.data_dir]) == 0
    assert (await machine.rebuild()).restored == 3
    assert await adopt_all(settings, [settings.data_dir]) == 3  # by id, so nothing comes of it but the marks
    assert len(await queued(machine)) == 3


async def test_the_repair_puts_what_another_machine_left(machine, settings, tmp_path):
    """`nightmail audit --repair --from`: named as in a journal only, put, and from then on in the queue."""
    ids = await left_behind(tmp_path / "b")
    await machine.accept("ann@one.test")

    def audit():
        return Audit(machine.blocking, settings, now=clock.now(), others=[tmp_path / "b"]).run()

    assert audit().in_journal_only == 3
    reinjected = await adopt_all(settings, [settings.data_dir, tmp_path / "b"])
    found = audit()
    found.reinjected = reinjected
    assert (found.holds, found.live, found.in_journal_only, found.reinjected) == (True, 4, 0, 3)
    assert "3 accepts lay in journals that nobody writes to" in _words(found)
    assert ids < await queued(machine)
