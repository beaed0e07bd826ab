"""The guards of a protected PostgreSQL, each tried for real: February 2024."""

import io

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from click.testing import CliRunner
from psycopg.errors import InsufficientPrivilege

from history import guards, schema
from history.guards import Environment, Mark, MendForbidden, Permit, ProductionRefused
from history.proofs import prove
from history.protect import ProtectRefused, Wish
from history.queries import History
from history.report import RecorderState
from history.roles import LOGINS, OWNER
from history.tables import metadata
from nightmail.commands.database import database as database_command
from nightmail.commands.database import run_check
from tests.fixtures.event_log import START, EventLog, tell_story
from tests.fixtures.guarded import PASSWORDS, PERMIT, PRODUCTION, WISH, GuardedServer, RunningRecorder
from tests.fixtures.history import record_all, rows_of
from tests.fixtures.waiting import until_sync


@pytest.fixture(scope="module")
def server():
    with GuardedServer() as server:
        yield server


@pytest.fixture
def bare(server):
    """A database that nobody protected."""
    return server.new_database()


@pytest.fixture
def live(bare):
    """A database protected and marked as production."""
    bare.protect()
    return bare


def misses(database):
    opened = database.open()
    try:
        return {finding.guard: finding.found for finding in prove(opened, database.settings()) if not finding.held}
    finally:
        opened.close()


def recorded(live, stories=3):
    """The log of some stories that the recorder's login has recorded."""
    log = EventLog()
    for number in range(stories):
        tell_story(log, number)
    opened = live.open("nightmail_recorder", writer=True)
    record_all(opened, log)
    opened.close()
    return log


def rows(database):
    opened = database.open()
    try:
        return rows_of(opened)
    finally:
        opened.close()


def nightmail_database(live, login, *words):
    """`nightmail database ...` as that login."""
    environment = {"NIGHTMAIL_DATABASE_OPERATOR_URL": live.url(login)}
    return CliRunner().invoke(database_command, list(words), env=environment)


@pytest.fixture(autouse=True)
def _no_stack(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTMAIL_DATA_DIR", str(tmp_path))


def test_every_guard_holds_and_its_loss_is_found(live, capsys):
    """The check misses nothing in a protected database, and names each guard that was taken away."""
    assert run_check(live.settings())
    assert "Every guard held." in capsys.readouterr().out
    live.force(
        "ALTER EVENT TRIGGER nightmail_guard_drop DISABLE",
        "DROP TRIGGER nightmail_guard_truncate ON policy_objects",
        "ALTER ROLE nightmail_readonly CONNECTION LIMIT -1",
        "ALTER ROLE nightmail_recorder RESET statement_timeout",
        "ALTER TABLE policy_objects OWNER TO nightmail_control",
    )
    try:
        missed = misses(live)
        assert missed["DROP TABLE as postgres"] == "ALLOWED"
        assert missed["TRUNCATE as nightmail_control"] == "ALLOWED"
        assert missed["limits of nightmail_recorder"] == "missing: statement_timeout"
        assert missed["limits of nightmail_readonly"] == "missing: CONNECTION LIMIT"
        assert "DROP SCHEMA as postgres" not in missed
        assert not run_check(live.settings())
    finally:
        live.protect()
    assert misses(live) == {}


def test_check_needs_what_it_tries_with(live, bare):
    """Guards that could not be tried count as missing, and so does a database that nobody protected."""
    settings = live.settings().model_copy(update={"database_password_readonly": None})
    opened = live.open("nightmail_control")
    missed = {finding.guard: finding.found for finding in prove(opened, settings) if not finding.held}
    opened.close()
    assert missed["TRUNCATE as nightmail_owner"].startswith("not tried")
    assert missed["idle in transaction as nightmail_readonly"].startswith("not tried")
    bare.force("DROP SCHEMA nightmail_guard CASCADE")
    assert list(misses(bare)) == ["mark"]


def test_the_logins_do_their_daily_work_and_no_more(live):
    """The recorder records, the control API reads, the readonly login reads; none may do the others' work."""
    recorded(live)
    history = History.open(live.settings("nightmail_control"))
    assert len(history.page(limit=9)) == 3
    history.close()
    with live.connect("nightmail_readonly") as reader:
        assert reader.execute("SELECT count(*) FROM emails").fetchone() == (3,)
        assert reader.execute("SHOW idle_session_timeout").fetchone() == ("8s",)
    for login, statement in {
        "nightmail_readonly": "INSERT INTO contents VALUES ('x', '')",
        "nightmail_control": "UPDATE emails SET subject = ''",
        "nightmail_recorder": "DELETE FROM emails",
        "nightmail_migrate": "SELECT * FROM emails",
    }.items():
        with live.connect(login) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute(statement)


def test_logins_need_their_passwords(live):
    """A login without its password, and the owner with any, is refused."""
    for login in ("nightmail_recorder", OWNER):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(host="127.0.0.1", port=live.server.port, user=login, password="x", dbname=live.name)


@pytest.mark.parametrize(
    "way_round",
    [
        "DROP SCHEMA public CASCADE",
        "DROP TABLE emails, recipients CASCADE",
        "DROP INDEX emails_by_age",
        "DROP OWNED BY nightmail_owner",
        "TRUNCATE emails",
        "DELETE FROM events",
        "SET session_replication_role = replica; DROP TABLE emails",
        "SET session_replication_role = replica; TRUNCATE emails",
        "ALTER TABLE emails DROP COLUMN subject",
        "ALTER TABLE emails ALTER COLUMN subject TYPE varchar(1)",
        "ALTER TABLE emails RENAME TO letters",
        "ALTER TABLE emails SET SCHEMA pg_catalog",
        "ALTER TABLE emails DISABLE TRIGGER ALL",
        "ALTER SCHEMA public RENAME TO gone",
        "CREATE RULE nothing AS ON INSERT TO emails DO INSTEAD NOTHING",
        "DROP TRIGGER nightmail_guard_truncate ON emails",
        "DROP SCHEMA nightmail_guard CASCADE",
        "DROP FUNCTION nightmail_guard.on_drop CASCADE",
        "DROP EXTENSION plpgsql CASCADE",
        "CREATE OR REPLACE FUNCTION nightmail_guard.admitted() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    ],
)
def test_a_superuser_is_stopped(guarded, way_round):
    """Outside a window not even a superuser drops, empties or changes a table, or takes the guards away."""
    with guarded.connect() as admin, pytest.raises(InsufficientPrivilege, match="outside a migration window"):
        admin.execute(way_round)


@pytest.fixture(scope="module")
def guarded(server):
    """One protected database for all tests that fail to change it."""
    database = server.new_database()
    database.protect()
    return database


def test_maintenance_is_not_stopped(guarded):
    """What keeps a database healthy needs no window."""
    with guarded.connect() as admin:
        for statement in (
            "VACUUM emails",
            "ANALYZE",
            "REINDEX TABLE emails",
            "REINDEX INDEX CONCURRENTLY emails_by_age",
        ):
            admin.execute(statement)
        admin.execute("CREATE TEMP TABLE mine (a int)")
        admin.execute("DROP TABLE mine")
        admin.execute("GRANT SELECT ON emails TO nightmail_readonly")


def test_nothing_of_ours_changes_production_without_its_name(live):
    """Migrating, rebuilding, dropping, alembic's downgrade and drop_all refuse production to whoever is mistaken."""
    log = recorded(live)
    before = rows(live)
    opened = live.open(writer=True)
    for wrong in (None, Permit("", "live"), Permit("T-1", "development")):
        for change in (schema.migrate, schema.drop):
            with pytest.raises(ProductionRefused):
                change(opened.engine, wrong)
        with pytest.raises(ProductionRefused):
            schema.rebuild(opened.engine, START, wrong)
    with pytest.raises(ProductionRefused):
        metadata.drop_all(opened.engine)
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", "history:migrations")
    with opened.engine.begin() as config.attributes["connection"], pytest.raises(ProductionRefused):
        command.downgrade(config, "base")
    assert rows(live) == before
    schema.rebuild(opened.engine, START, PERMIT)
    opened.close()
    assert rows(live)["emails"] == []
    assert misses(live) == {}  # the new tables are guarded, and no window was left open
    opened = live.open("nightmail_recorder", writer=True)
    assert record_all(opened, log) == log.newest()
    opened.close()
    assert rows(live) == before


def test_the_guards_in_the_database_ask_for_themselves(live):
    """With our own checks out of the way the database still wants ticket and name before it opens a window."""
    with live.connect("nightmail_migrate") as migrator:
        for arguments in ("'', 'live', 5", "'T-1', NULL, 5", "'T-1', 'development', 5"):
            with pytest.raises(InsufficientPrivilege, match="no change"):
                migrator.execute(f"SELECT nightmail_guard.open_window({arguments})")
    with live.connect("nightmail_recorder") as recorder, pytest.raises(InsufficientPrivilege):
        recorder.execute("SELECT nightmail_guard.open_window('T-1', 'live', 5)")


def test_a_window_lets_in_and_closes_by_itself(live):
    """The migrator is the owner only while a window is open; when its time is over the guards stand, and rights go."""
    with live.connect("nightmail_migrate") as migrator, live.connect() as admin:
        with pytest.raises(InsufficientPrivilege):
            migrator.execute("SET ROLE nightmail_owner")
        opened = nightmail_database(live, "nightmail_migrate", "open-window", "--ticket", "T-1", "--name", "live")
        assert opened.exit_code == 0, opened.output
        migrator.execute("SET ROLE nightmail_owner")
        migrator.execute("DROP INDEX emails_by_age")
        with pytest.raises(InsufficientPrivilege):
            admin.execute("DROP INDEX recipients_by_address")  # not the superuser's window
        assert misses(live)["migration window"] == "open by nightmail_migrate for T-1"
        admin.execute("UPDATE nightmail_guard.window SET until = now()")
        with pytest.raises(InsufficientPrivilege):
            migrator.execute("DROP INDEX recipients_by_address")
        migrator.execute("RESET ROLE")
        closed = nightmail_database(live, "nightmail_migrate", "close-window")
        assert closed.exit_code == 0, closed.output
        with pytest.raises(InsufficientPrivilege):
            migrator.execute("SET ROLE nightmail_owner")


def test_the_recorder_waits_for_a_person_where_tables_are_protected(live):
    """Dropped tables of production are not made again in secret: the recorder names the command, and then refills."""
    log = recorded(live)
    before = rows(live)
    opened = live.open("nightmail_recorder", writer=True)
    with RunningRecorder(opened, log) as running:
        running.wait_until_in_step()
        live.force("DROP SCHEMA public CASCADE", "CREATE SCHEMA public AUTHORIZATION nightmail_owner")
        live.force("GRANT USAGE ON SCHEMA public TO nightmail_recorder, nightmail_readonly, nightmail_control")
        running.wait_for(RecorderState.WAITING)
        assert "`nightmail database migrate --ticket TICKET --name NAME`" in running.report.error
        refused = nightmail_database(live, "nightmail_migrate", "migrate")
        assert refused.exit_code == 1
        assert "marked production" in refused.output
        done = nightmail_database(live, "nightmail_migrate", "migrate", "--ticket", "T-2", "--name", "live")
        assert done.exit_code == 0, done.output
        running.wait_until_in_step()
    assert rows(live) == before
    assert misses(live) == {}


def test_a_lost_checkpoint_needs_no_person(live):
    """Where only the checkpoint's row is gone the recorder's own rights are enough to start again."""
    log = recorded(live)
    before = rows(live)
    with live.connect() as admin:
        admin.execute("DELETE FROM checkpoint")
    opened = live.open("nightmail_recorder", writer=True)
    with RunningRecorder(opened, log) as running:
        running.wait_until_in_step()
    assert rows(live) == before


def test_a_database_made_anew_in_the_place_of_a_protected_one(live, server):
    """After DROP DATABASE, which nothing stops, protecting the new one is the one command that is needed."""
    log = recorded(live)
    before = rows(live)
    with server.connect() as admin:
        admin.execute(f"DROP DATABASE {live.name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {live.name}")
    opened = live.open("nightmail_recorder", writer=True)
    with pytest.raises(MendForbidden, match="nightmail database protect"):
        schema.mend(opened.engine, START)
    live.protect()
    record_all(opened, log)
    opened.close()
    assert rows(live) == before
    assert misses(live) == {}


def test_protecting_again_changes_nothing(live):
    """The command can be repeated: rows, limits and passwords stay, and passwords are made only on request."""
    log = recorded(live)
    before = rows(live)
    arguments = ("protect", "--name", "live")
    again = nightmail_database(live, "postgres", *arguments)
    assert again.exit_code == 0, again.output
    assert "postgresql" not in again.output
    with live.connect() as admin:
        limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'nightmail_readonly'"
        assert admin.execute(limit).fetchone() == (WISH.limits["nightmail_readonly"],)
    renewed = nightmail_database(live, "postgres", *arguments, "--new-passwords")
    assert renewed.output.count("postgresql+psycopg://nightmail_") == len(LOGINS)
    with pytest.raises(psycopg.OperationalError):
        live.connect("nightmail_control")
    live.protect()
    live.connect("nightmail_control").close()
    assert rows(live) == before
    assert log.newest() == 12


def test_a_password_never_travels_in_a_statement(live, server):
    """The server's log of statements holds verifiers, and none of the passwords."""
    with server.connect() as admin:
        admin.execute("ALTER SYSTEM SET log_statement = 'all'")
        admin.execute("SELECT pg_reload_conf()")
        live.protect()
        admin.execute("ALTER SYSTEM RESET log_statement")
        admin.execute("SELECT pg_reload_conf()")
    log = (server.folder.parent / "postgres.log").read_text()
    assert "ALTER ROLE nightmail_control PASSWORD 'SCRAM-SHA-256$" in log
    assert not any(password in log for password in PASSWORDS.values())


def test_production_stays_production(live):
    """Nobody marks production as something else, or by another name, without a ticket and its name."""
    staging = Mark("trial", Environment.STAGING)
    with pytest.raises(ProductionRefused):
        live.protect(staging)
    arguments = ("protect", "--name", "trial", "--environment", "staging")
    refused = nightmail_database(live, "postgres", *arguments, "--ticket", "T-1", "--old-name", "other")
    assert refused.exit_code == 1
    opened = live.open()
    with opened.connect() as connection:
        assert guards.mark_of(connection) == PRODUCTION
    done = nightmail_database(live, "postgres", *arguments, "--ticket", "T-1", "--old-name", "live")
    assert done.exit_code == 0, done.output
    with opened.connect() as connection:
        assert guards.mark_of(connection) == staging
    opened.close()
    assert nightmail_database(live, "nightmail_migrate", "migrate").exit_code == 0  # only production asks for more


def test_protecting_needs_a_superuser_and_room(bare):
    """A login that could not put up the guards, or a server too small for the limits, is told so; nothing is done."""
    refused = nightmail_database(bare, "postgres", "protect", "--name", "live", "--limit", "control=90")
    assert "the limits (migrate 2 + recorder 8 + control 90" in refused.output
    assert "not protected" in nightmail_database(bare, "postgres", "open-window").output
    bare.protect(wish=Wish(passwords=PASSWORDS))
    assert "superuser" in nightmail_database(bare, "nightmail_migrate", "protect", "--name", "live").output
    with pytest.raises(ProtectRefused):
        bare.protect(wish=Wish(limits={"nightmail_recorder": 90}))


def test_an_unprotected_database_mends_itself(bare):
    """Where nobody asked for guards the recorder makes the tables by itself, as ever, and fills them again."""
    log = EventLog()
    tell_story(log, 1)
    opened = bare.open(writer=True)
    with RunningRecorder(opened, log) as running:
        running.wait_until_in_step()
        before = rows(bare)
        with bare.connect() as admin:
            admin.execute("DROP TABLE emails, checkpoint")
        until_sync(lambda: sa.inspect(opened.engine).has_table("emails"), seconds=15)
        running.wait_until_in_step()  # its state while it refills is over too soon to be waited for
        assert rows(bare) == before
