"""Opens and clicks in the queue: they show wherever a message is known, and leave nothing behind."""

from datetime import timedelta

import pytest

from outbox.archiving import archive_once
from outbox.hits import Hits
from outbox.retire import retire_once
from outbox.states import LastEvent, State
from outbox.tracking import Tracked
from runtime import clock
from tests.fixtures.machine import running
from worker.webhook_messages import EventReader

HOUR = timedelta(hours=1)


@pytest.fixture
async def machine(settings):
    async with running(settings) as machine:
        yield machine


async def hit(machine, message_id, *kinds):
    """Hits of these kinds, recorded."""
    hits = Hits(machine.redis, machine.settings)
    tracked = Tracked(message_id, clock.now())
    for kind in kinds:
        if kind == "opened":
            hits.opened(tracked, user_agent="Mail/1")
        else:
            hits.clicked(tracked, "https://a.test/", ip_address="::1", user_agent="Web/1")
    await hits.stop()


async def last_event(machine, message_id):
    return (await machine.outbox.find(message_id)).last_event


def keys(machine):
    return {key.decode().split(":", 1)[1] for key in machine.blocking.keys("*")}


async def test_a_reaction_shows_and_is_never_taken_back(machine):
    """Not before the mail is delivered; then the furthest of what came, in whatever order."""
    message_id = await machine.accept("ann@one.test")
    await hit(machine, message_id, "opened")
    assert await last_event(machine, message_id) is LastEvent.QUEUED
    await machine.attempt(message_id, State.DELIVERED)
    assert await last_event(machine, message_id) is LastEvent.OPENED
    await hit(machine, message_id, "clicked", "opened")
    assert await last_event(machine, message_id) is LastEvent.CLICKED


async def test_it_shows_of_archived_mail_too(machine):
    """The brief that is left of a message keeps it and takes what comes later; a forgotten message stays forgotten."""
    before, after = await machine.accept("ann@one.test"), await machine.accept("bob@two.test")
    for message_id in (before, after):
        await machine.attempt(message_id, State.DELIVERED)
    await hit(machine, before, "opened")
    machine.archive()
    retire_once(machine.blocking, machine.settings, now=clock.now())
    assert await machine.redis.hkeys(f"{{{machine.settings.queue_prefix}}}:m:{before}") == [b"brief"]
    assert await last_event(machine, before) is LastEvent.OPENED
    assert await last_event(machine, after) is LastEvent.DELIVERED
    await hit(machine, before, "clicked")
    await hit(machine, before, "opened")
    await hit(machine, after, "opened")
    assert await last_event(machine, before) is LastEvent.CLICKED
    assert await last_event(machine, after) is LastEvent.OPENED
    retire_once(machine.blocking, machine.settings, now=clock.now() + HOUR)
    await hit(machine, before, "clicked")
    assert await machine.outbox.find(before) is None
    assert not any(name.startswith("m:") for name in keys(machine))


async def test_a_rebuild_knows_it_from_the_archive(machine):
    """An emptied queue is filled again with what was known of readers; hits that no archive has are gone."""
    message_id = await machine.accept("ann@one.test", "bob@two.test")
    await machine.attempt(message_id, State.DELIVERED)
    await hit(machine, message_id, "opened", "clicked")
    machine.archive()
    await machine.redis.flushdb()
    await machine.rebuild()
    assert (await machine.outbox.find(message_id)).reaction == "clicked"
    assert await machine.states(message_id) == (State.DELIVERED, State.QUEUED)
    await hit(machine, message_id, "opened")
    assert machine.events()[-1].kind == "opened"


async def test_webhooks_find_the_mail_of_a_late_click(machine):
    """Long after the queue has forgotten it: in the archive, from when it was accepted. Nobody looks if nobody asks."""
    ids = []
    for n in range(6):  # each in a segment of its own
        ids.append(await machine.accept(f"a{n}@one.test"))
        await machine.attempt(ids[-1], State.DELIVERED)
        assert archive_once(machine.blocking, machine.settings, now=clock.now() + HOUR)
    retire_once(machine.blocking, machine.settings, now=clock.now() + HOUR)
    place = machine.events()[-1].number
    await hit(machine, ids[4], "clicked")
    await hit(machine, "01a1ffe2-c0a8-8430-a0e0-8343fa4cc8ae", "clicked")
    reader = EventReader(machine.blocking, machine.settings)
    reader.hits = False
    assert [message for _, message in await reader.read(place)] == [None, None]
    reader = EventReader(machine.blocking, machine.settings)
    found, unknown = [message for _, message in await reader.read(place)]
    assert (found.id, unknown) == (ids[4], None)
