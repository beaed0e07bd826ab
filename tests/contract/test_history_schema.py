"""The schema, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from history import schema
from history.faults import words
from history.recorder import Recorder
from history.tables import checkpoint, metadata
from outbox import events
from outbox.tracking import Tracked
from tests.fixtures.event_log import START, EventLog, delivered, make_message, tell_story
from tests.fixtures.history import record_all, rows_of


def test_migrations_lead_to_the_tables(open_database):
    """After all migrations the database is what history/tables.py says, to the last column and index."""
    engine = open_database().engine
    schema.migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        changes = compare_metadata(context, metadata)
    # An index over an expression is beyond what Alembic compares: it stands in tables.py as DDL.
    assert [change for change in changes if getattr(change[1], "name", None) != "emails_by_tag"] == []


def test_the_index_over_tags_is_the_same_however_it_was_made(database):
    """By migrations, which Alembic does not compare, or anew after a loss; it leaves out mail without tags."""
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no index over JSON")
    made = sa.text("SELECT pg_get_indexdef('emails_by_tag'::regclass)")
    with database.connect() as db:
        migrated = db.scalar(made)
        db.execute(sa.text("DROP TABLE emails"))
        db.commit()
    schema.mend(database.engine, START)
    with database.connect() as db:
        assert db.scalar(made) == migrated
    assert migrated.endswith("WHERE ((tags)::text <> '[]'::text)")


def test_migrating_says_nothing_and_can_be_repeated(open_database, capfd):
    """Migrating a second time does nothing, and neither writes to the terminal."""
    engine = open_database(writer=True).engine
    schema.migrate(engine)
    schema.migrate(engine)
    assert capfd.readouterr() == ("", "")


def test_processes_may_migrate_at_once(open_database):
    """Several processes that start together migrate one after the other."""
    engines = [open_database(writer=True).engine for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(schema.migrate, engines))
    assert sa.inspect(engines[0]).has_table("emails")


@pytest.mark.parametrize("name", list(metadata.tables))
def test_any_one_lost_table_is_refilled(database, name):
    """Whichever table is dropped, mending and replaying gives every row back."""
    log = EventLog()
    for number in range(3):
        message = tell_story(log, number)
    log.append(events.complained(message.id, (0,), at=START))
    read = make_message(9)
    log.append(events.accepted(read))
    log.append(delivered(read, at=START))
    tracked = Tracked(read.id, read.created_at)
    for _ in range(2):
        log.append(events.opened(tracked, at=START, user_agent=""))
        log.append(events.clicked(tracked, "https://a.test/", at=START, ip_address="::1", user_agent=""))
    record_all(database, log)
    before = rows_of(database)
    with database.engine.begin() as connection:
        metadata.tables[name].drop(connection)
    schema.mend(database.engine, START)
    record_all(database, log)
    assert rows_of(database) == before


@pytest.mark.parametrize("name", [name for name in metadata.tables if name != "checkpoint"])
def test_a_lost_table_is_noticed_while_nothing_happens(database, name):
    """The recorder looks at the tables now and then, and at each turn until they are there again."""
    times = iter([0, 1, 5, 20, 21, 22])
    recorder = Recorder(database, EventLog(), batch=10, now=lambda: START, monotonic=lambda: next(times))
    recorder.record_batch()
    with database.engine.begin() as connection:
        metadata.tables[name].drop(connection)
    assert recorder.record_batch() == 0
    for _ in range(2):
        with pytest.raises(sa.exc.DBAPIError) as raised:
            recorder.record_batch()
        assert schema.is_missing(raised.value)


def test_mending_says_whether_it_made_anything(database):
    """A lost table is made; with all tables and the newest version there is nothing that it makes."""
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE contents"))
    assert schema.mend(database.engine, START)
    with database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE emails DROP COLUMN text_derived"))
    assert not schema.mend(database.engine, START)
    log = EventLog()
    tell_story(log, 1)
    with pytest.raises(sa.exc.SQLAlchemyError) as raised:
        record_all(database, log)
    assert schema.is_missing(raised.value)
    assert words(raised.value) in {
        "tables missing or unknown to us (42703)",
        "database file: has no column named",
    }


def test_a_lost_version_is_mended(database):
    """A schema whose version table is lost is taken as it is, with its rows."""
    log = EventLog()
    tell_story(log, 1)
    record_all(database, log)
    before = rows_of(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE alembic_version"))
    schema.mend(database.engine, START)
    assert rows_of(database) == before


def test_dropping_drops_everything_and_mending_brings_it_back(database):
    """After a drop no table of ours is left; after mending the recorder starts at the first event."""
    schema.drop(database.engine)
    assert sa.inspect(database.engine).get_table_names() == []
    with pytest.raises(sa.exc.DBAPIError) as raised, database.connect() as db:
        db.execute(sa.select(checkpoint))
    assert schema.is_missing(raised.value)
    schema.mend(database.engine, START)
    assert rows_of(database)["checkpoint"] == [(1, 0, START, None)]


def test_rebuilding_starts_from_nothing(database):
    """Rebuilding empties the tables; replaying fills them with the same rows."""
    log = EventLog()
    tell_story(log, 1)
    record_all(database, log)
    before = rows_of(database)
    schema.rebuild(database.engine, START)
    assert rows_of(database)["emails"] == []
    assert record_all(database, log) == log.newest()
    assert rows_of(database) == before
