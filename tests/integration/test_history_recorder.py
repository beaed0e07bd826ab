"""The recorder process on the real queue: from accept and settle in Redis to rows; SIGTERM, kill -9, a gap."""

import os
import signal
import subprocess
import sys
import time

import orjson
import pytest
from pydantic import SecretStr

from history.queries import History
from outbox.entry import Entry, Submission
from outbox.message import Attempt, Outcome
from outbox.queue import Outbox
from outbox.states import LastEvent, State
from outbox.stream import EventSource, Progress
from runtime import clock
from runtime.connections import redis_async, redis_sync
from tests.fixtures.event_log import CONTENT, make_message

PROGRAM = """
from history.recorder import run
from runtime import logs
from runtime.settings import Settings
settings = Settings()
logs.setup(settings, "recorder")
run(settings)
"""


@pytest.fixture
def stack(settings, database_url):
    return settings.model_copy(update={"database_url": SecretStr(database_url)})


@pytest.fixture
def redis(stack):
    client = redis_sync(stack)
    yield client
    client.close()


@pytest.fixture
def start(stack):
    """Starts recorder processes; those that still run in the end are killed."""
    processes = []

    def start_():
        environment = os.environ | {
            "NIGHTMAIL_REDIS_URL": stack.redis_url.get_secret_value(),
            "NIGHTMAIL_QUEUE_PREFIX": stack.queue_prefix,
            "NIGHTMAIL_DATABASE_URL": stack.database_url.get_secret_value(),
            "NIGHTMAIL_DATA_DIR": str(stack.data_dir),
            "NIGHTMAIL_SECRET": "x" * 32,
        }
        processes.append(subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment))
        return processes[-1]

    yield start_
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for(progress, condition):
    deadline = time.monotonic() + 15
    while not condition(view := progress.read()):
        assert time.monotonic() < deadline, view
        time.sleep(0.02)
    return view


async def mail(stack, numbers):
    """Accept mails and deliver those with an even number, through the queue's own scripts."""
    redis = redis_async(stack, timeout=5)
    outbox = Outbox(redis, stack)
    now = clock.now()
    entry = Entry.plain([Submission(make_message(number), CONTENT) for number in numbers])
    await outbox.append([entry.arguments(now)])
    claims = await outbox.claim("a.example", channel="w#1", limit=1000, now=now)
    for claim in claims[::2]:
        attempt = Attempt(now, "mailbox", (Outcome(0, State.DELIVERED, 250, "2.0.0", "ok"),))
        assert await outbox.settle(claim, attempt, worker="w", now=now, next_attempt_at=None)
    await redis.aclose()
    return [claim.message.id for claim in claims]


async def test_what_the_queue_did_is_recorded(stack, redis, start):
    """Mails accepted and settled in the queue are found in the database; SIGTERM ends it with 0."""
    progress = Progress(redis, stack)
    process = start()
    wait_for(progress, lambda view: view.state == "ok")
    ids = await mail(stack, range(20))
    newest = EventSource(redis, stack).newest()
    assert newest == 30
    wait_for(progress, lambda view: view.checkpoint == newest)
    history = History.open(stack)
    assert [history.find(email_id).last_event for email_id in ids[:2]] == [LastEvent.DELIVERED, LastEvent.QUEUED]
    assert history.find(ids[0]).content == CONTENT
    assert len(history.page(limit=100)) == 20
    history.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_kill_9_leaves_the_place_behind(stack, redis, start):
    """After kill -9 in the middle of its work a recorder goes on where its last commit was: no row too many."""
    progress = Progress(redis, stack)
    first = start()
    await mail(stack, range(200))
    wait_for(progress, lambda view: view.state == "ok")
    await mail(stack, range(200, 400))
    first.kill()
    first.wait()
    start()
    wait_for(progress, lambda view: view.checkpoint == 600)
    history = History.open(stack)
    assert len(history.page(limit=1000)) == 400
    history.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_gap_is_an_alarm(stack, redis, start):
    """A lost event is named, nothing after it is recorded, and recording goes on when it is found again."""
    await mail(stack, range(4))
    stream, progress = f"{{{stack.queue_prefix}}}:events", Progress(redis, stack)
    lost = redis.xrange(stream, min="3-0", max="3-0")[0]
    after = redis.xrange(stream, min="4-0")
    redis.xdel(stream, lost[0])
    start()
    view = wait_for(progress, lambda view: view.state == "gap")
    assert (view.checkpoint, view.error) == (2, "event 3 is missing, the next one is 4")
    with redis.pipeline() as at_once:
        at_once.delete(stream)
        for number, fields in [lost, *after]:
            at_once.xadd(stream, fields, id=number)
        at_once.execute()
    newest = orjson.loads(redis.get(f"{{{stack.queue_prefix}}}:seq"))
    wait_for(progress, lambda view: (view.checkpoint, view.state) == (newest, "ok"))
