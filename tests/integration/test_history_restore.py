"""Backups put in the place of the live database: old ones fill themselves, wrong ones are refused and named."""

import sqlite3

import orjson
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from pydantic import SecretStr

from history import schema
from history.belonging import Belonging
from history.engine import Database
from history.errors import Foreign
from history.installation import Installation
from history.recorder import Recorder
from history.survey import stand
from history.tables import checkpoint, events
from nightmail.cli import main
from outbox.errors import Gap
from outbox.stream import EventSource
from runtime.connections import redis_sync
from runtime.settings import Settings
from tests.fixtures.event_log import START, EventLog, tell_story
from tests.fixtures.guarded import GuardedServer
from tests.fixtures.history import rows_of


class Name:
    """The name of a stack, in memory."""

    def __init__(self, name=""):
        self.kept = name

    def in_queue(self):
        return self.kept

    def name(self):
        return self.kept

    def settle(self, name):
        self.kept = self.kept or name or "made"
        return self.kept


@pytest.fixture(scope="module")
def server():
    with GuardedServer() as server:
        yield server


class SqliteFile:
    """A file, and copies of it."""

    def __init__(self, path):
        self.path = path
        self.url = f"sqlite:///{path}"

    def copy(self):
        there = self.path.with_name(f"copy-of-{self.path.name}")
        with sqlite3.connect(self.path) as old, sqlite3.connect(there) as new:
            old.backup(new)
        old.close()
        new.close()
        return SqliteFile(there)


class ServersDatabase:
    """A database of a server, and copies of it."""

    def __init__(self, server, name):
        self.server = server
        self.name = name
        self.url = server.url(name)

    def copy(self):
        there = f"copy_of_{self.name}"
        with self.server.connect() as admin:
            admin.execute(f"CREATE DATABASE {there} TEMPLATE {self.name}")
        return ServersDatabase(self.server, there)


@pytest.fixture(params=["sqlite", "postgresql"])
def live(request, tmp_path):
    """A database of each kind, with its tables."""
    if request.param == "sqlite":
        made = SqliteFile(tmp_path / "history.sqlite")
    else:
        made = ServersDatabase(server := request.getfixturevalue("server"), server.new_database().name)
    with_tables(made)
    return made


def opened(place):
    return Database.open(Settings(database_url=SecretStr(place.url)), "test", writer=True)


def with_tables(place):
    database = opened(place)
    schema.mend(database.engine, START)
    database.close()


def record(place, log, name):
    """Record what the log holds beyond the checkpoint; the rows."""
    database = opened(place)
    try:
        recorder = Recorder(database, log, batch=7, belonging=Belonging(log, name), now=lambda: START)
        while recorder.record_batch():
            pass
        return rows_of(database)
    finally:
        database.close()


def change(place, statement):
    database = opened(place)
    with database.connect() as db:
        db.execute(statement)
        db.commit()
    database.close()


def log_of(stories, first=0):
    log = EventLog()
    for number in range(first, first + stories):
        tell_story(log, number)
    return log


def test_an_old_backup_fills_itself(live):
    """Put in the place of the live database, a backup from before half of the events ends with the same rows."""
    log, name = log_of(10), Name()
    record(live, log, name)
    backup = live.copy()
    for number in range(10, 20):
        tell_story(log, number)
    rows = record(live, log, name)
    assert record(backup, log, name) == rows
    assert rows["checkpoint"] == [(1, 80, START, "made")]


def test_a_backup_ahead_of_our_events_is_refused(live):
    """A database that holds events we do not have is not written to; the words name both numbers."""
    record(live, log_of(10), Name("ours"))
    young = log_of(3)
    with pytest.raises(Foreign, match="holds event 40, and our newest is 12"):
        record(live, young, Name("ours"))
    with pytest.raises(Foreign):
        record(live, young, Name())


def test_a_backup_of_another_stack_is_refused(live):
    """Whatever its checkpoint is: the name of its installation is another one. An empty database is taken."""
    record(live, log_of(3, first=100), Name("theirs"))
    with pytest.raises(Foreign, match="belongs to installation theirs, and this is ours"):
        record(live, log_of(10), Name("ours"))


def test_events_that_were_counted_anew_are_noticed(live):
    """Where queue and archive forgot, and numbers were used again, the event at the checkpoint is another one."""
    record(live, log_of(3), Name("ours"))
    with pytest.raises(Foreign, match="event 12 of the database is another one than ours"):
        record(live, log_of(10, first=50), Name("ours"))


def test_a_restore_in_part_is_refused(live):
    """A checkpoint without its events, as after a restore of one table only, is not gone on from."""
    log, name = log_of(3), Name("ours")
    record(live, log, name)
    change(live, sa.delete(events))
    tell_story(log, 3)
    with pytest.raises(Foreign, match="says that it holds event 12, and does not"):
        record(live, log, name)


def test_a_database_from_before_names_gets_one(live):
    """A checkpoint that nobody named yet, by a program that knew no names, is compared by its last event, and named."""
    log = log_of(3)
    record(live, log, Name("ours"))
    change(live, sa.update(checkpoint).values(installation=None))
    tell_story(log, 3)
    assert record(live, log, Name())["checkpoint"] == [(1, 16, START, "made")]


def test_a_backup_whose_events_are_lost_is_told_before(live):
    """Before it goes live a restored database is said to be behind and fillable, or not to be, with the first gap."""
    log, name = log_of(10), Name("ours")
    record(live, log, name)
    backup = opened(live.copy())
    for number in range(10, 20):
        tell_story(log, number)
    told = []
    standing = stand(backup, log, Belonging(log, name), tell=told.append)
    assert (standing.checkpoint, standing.newest, standing.behind, standing.problem) == (40, 80, 40, "")
    assert told == [80]
    log.missing = {55}
    standing = stand(backup, log, Belonging(log, name), tell=told.append)
    assert standing.problem == "event 55 is missing, the next one is 56"
    recorder = Recorder(backup, log, batch=100, belonging=Belonging(log, name), now=lambda: START)
    assert recorder.record_batch() == 14  # what lies before it
    with pytest.raises(Gap, match="event 55 is missing"):
        recorder.record_batch()
    backup.close()


@pytest.fixture
def stack(settings, live, monkeypatch):
    """Settings on a real queue, which the commands find too."""
    url = live.url
    monkeypatch.setenv("NIGHTMAIL_DATABASE_URL", url)
    for name in ("redis_url", "queue_prefix", "data_dir", "secret"):
        value = getattr(settings, name)
        shown = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        monkeypatch.setenv(f"NIGHTMAIL_{name.upper()}", shown)
    return settings.model_copy(update={"database_url": SecretStr(url)})


@pytest.fixture
def redis(stack):
    client = redis_sync(stack)
    yield client
    client.close()


def publish(redis, stack, log):
    """The log as the queue's scripts would have written it."""
    prefix = f"{{{stack.queue_prefix}}}"
    with redis.pipeline() as at_once:
        for recorded in log.records:
            event = recorded.event
            at_once.xadd(f"{prefix}:events", {"e": orjson.dumps(event.fields)}, id=f"{event.number}-0")
            if recorded.content is not None:
                at_once.set(f"{prefix}:c:{event.fields['id']}", recorded.content)
        at_once.set(f"{prefix}:seq", log.newest())
        at_once.execute()


def record_queue(live, redis, stack):
    source = EventSource(redis, stack)
    database = opened(live)
    recorder = Recorder(
        database, source, batch=50, belonging=Belonging(source, Installation(redis, stack)), now=lambda: START
    )
    while recorder.record_batch():
        pass
    rows = rows_of(database)
    database.close()
    return rows


def test_a_person_rebuilds_the_database(live, stack, redis):
    """`rebuild database` empties it only if every event is there, and recording then gives the same rows."""
    publish(redis, stack, log_of(20))
    rows = record_queue(live, redis, stack)
    change(live, sa.update(events).values(kind="scribbled"))
    done = CliRunner().invoke(main, ["rebuild", "database", "--no-wait"])
    assert done.exit_code == 0, done.output
    assert "All 80 events can be read." in done.output
    assert record_queue(live, redis, stack) == rows
    redis.xdel(f"{{{stack.queue_prefix}}}:events", "31-0")
    refused = CliRunner().invoke(main, ["rebuild", "database", "--no-wait"])
    assert refused.exit_code == 1
    assert "event 31 is missing" in refused.output
    assert record_queue(live, redis, stack) == rows


def test_a_person_asks_whether_a_backup_may_go_live(live, stack, redis):
    """`database verify URL` says how far behind it is; after the queue forgot everything, that it is not to be used."""
    publish(redis, stack, log_of(20))
    backup = live.copy()
    record_queue(live, redis, stack)
    good = CliRunner().invoke(main, ["database", "verify", backup.url])
    assert good.exit_code == 0, good.output
    assert "80 events behind, every one of them readable" in good.output
    redis.delete(*redis.keys(f"{{{stack.queue_prefix}}}*"))
    wrong = CliRunner().invoke(main, ["database", "verify"])
    assert wrong.exit_code == 1
    assert "holds event 80, and our newest is 0" in wrong.output


def test_the_name_outlives_the_queue(stack, redis, tmp_path):
    """A queue that lost its memory gets its name back from the archive; an archive of another stack is noticed."""
    name = Installation(redis, stack).settle("")
    redis.delete(*redis.keys(f"{{{stack.queue_prefix}}}*"))
    assert Installation(redis, stack).in_queue() == ""
    assert Installation(redis, stack).name() == name
    assert Installation(redis, stack).settle(Installation(redis, stack).name()) == name
    other = stack.model_copy(update={"data_dir": tmp_path / "other", "queue_prefix": "other"})
    theirs = Installation(redis, other).settle("")
    (stack.data_dir / "archive" / "installation").write_text(theirs)
    with pytest.raises(Foreign, match="the archive belongs to installation"):
        Installation(redis, stack).name()


def test_production_is_not_rebuilt_without_its_name(server, settings, monkeypatch):
    """A protected database is emptied with ticket and name only, and by a login that may open a window."""
    live = server.new_database()
    live.protect()
    monkeypatch.setenv("NIGHTMAIL_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("NIGHTMAIL_QUEUE_PREFIX", settings.queue_prefix)
    monkeypatch.setenv("NIGHTMAIL_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("NIGHTMAIL_DATABASE_OPERATOR_URL", live.url("nightmail_migrate"))
    refused = CliRunner().invoke(main, ["rebuild", "database", "--no-wait"])
    assert refused.exit_code == 1
    assert "marked production" in refused.output
    done = CliRunner().invoke(main, ["rebuild", "database", "--no-wait", "--ticket", "T-1", "--name", "live"])
    assert done.exit_code == 0, done.output
