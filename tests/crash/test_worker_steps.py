"""A worker dies at each step of a delivery: nothing is lost, and what comes twice is bounded and flagged."""

import asyncio
import signal
from collections import Counter

import pytest

from outbox.queue import Outbox
from outbox.states import State
from outbox.stream import EventSource
from runtime import clock
from runtime.connections import redis_async, redis_sync
from tests.fixtures.mail import a_submission, an_entry
from tests.fixtures.next_hop import NextHop
from tests.fixtures.waiting import until
from tests.fixtures.worker_process import DRAIN, running
from worker.failpoint import VARIABLE, Step, armed
from worker.ticker import Ticker

MAILS = 24
PASSAGE = 7


def a_worker(settings, log, **variables):
    """A worker process that claims two mails at a time."""
    return running(DRAIN, settings, log, NIGHTMAIL_CLAIM_BATCH="2", **variables)


@pytest.fixture
async def hop():
    async with NextHop() as hop:
        yield hop


@pytest.fixture
async def placed(settings, hop):
    """Settings of the workers, with mail in one lane, which has one connection: one mail is under way at a time."""
    settings = settings.model_copy(update={"mailbox_smtp_port": hop.port})
    client = redis_async(settings, timeout=5)
    outbox = Outbox(client, settings)
    ids = []
    for n in range(MAILS):
        content = f"Subject: {n}\r\n\r\nHi\r\n".encode()
        mail = a_submission(f"{n}@lane.test", now=clock.now(), content=content)
        await outbox.append([an_entry(mail).arguments(clock.now())])
        ids.append(mail.message.id)

    async def all_delivered():
        return all([(await outbox.find(i)).states == (State.DELIVERED,) for i in ids])

    yield settings, all_delivered
    await client.aclose()


def flagged(settings):
    """Mails whose attempts are marked as possible duplicates, by their ids."""
    with redis_sync(settings) as client:
        events = [recorded.event for recorded in EventSource(client, settings).read(0, 1000)]
    return {event.fields["id"] for event in events if event.fields.get("possible_duplicate")}


@pytest.mark.parametrize("step", list(Step))
async def test_a_worker_that_dies_at_a_step_loses_nothing(placed, hop, step, tmp_path):
    """The next life delivers the rest; a mail comes twice only if its dot was out and no receipt of it was written."""
    fewest = 1 if step in {Step.AFTER_DOT, Step.AFTER_250} else 0
    most = 1 if step is Step.MID_SETTLE else fewest  # while a mail is settled the next one is sent
    settings, all_delivered = placed
    with redis_sync(settings) as client:
        ticker = Ticker(client, settings)
        await asyncio.to_thread(ticker.beat)
        with a_worker(settings, tmp_path / "log", **{VARIABLE: f"{step}:{PASSAGE}"}) as worker:
            assert await asyncio.to_thread(worker.wait, 20) == -signal.SIGKILL
        await asyncio.to_thread(ticker.beat)
        with a_worker(settings, tmp_path / "log"):
            await until(all_delivered)
    copies = Counter(mail.content for mail in hop.received)
    assert len(copies) == MAILS
    doubled = sum(count - 1 for count in copies.values())
    assert fewest <= doubled <= most
    assert doubled <= len(flagged(settings)) <= 1


def test_without_the_variable_nobody_dies():
    """Passing a step is a call that does nothing."""
    reach = armed(None, die=lambda: pytest.fail("died"))
    for step in Step:
        reach(step)


def test_a_worker_dies_at_the_passage_that_was_ordered():
    """Only at the step that was named, and only once."""
    deaths = []
    reach = armed("before-dot:2", die=lambda: deaths.append("died"))
    for step in (Step.BEFORE_DOT, Step.AFTER_250, Step.AFTER_250):
        reach(step)
    assert not deaths
    reach(Step.BEFORE_DOT)
    reach(Step.BEFORE_DOT)
    assert deaths == ["died"]


def test_a_misspelt_step_is_refused():
    """A drill that breaks nothing would prove nothing."""
    with pytest.raises(ValueError, match="before-dott"):
        armed("before-dott", die=lambda: None)
