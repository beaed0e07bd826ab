"""The main database: its chaos modes; a real PostgreSQL that is stopped, hung, locked, crowded, emptied."""

import asyncio
from contextlib import ExitStack

import psycopg

from faults.drill import Drill
from faults.phases import Phase
from faults.troubles.rounds import Breakage, rounds
from tests.fixtures.postgres import PostgresServer

MODES = ("down", "slow", "exhausted", "dropped")
_FLAP = 2.5  # seconds stopped, and seconds up
_TABLES = "emails, recipients, events, checkpoint"


async def modes(drill: Drill) -> None:
    """The chaos switch through every mode, health before each."""
    span = drill.seconds / len(MODES)
    for mode in MODES:
        with drill.phase(Phase.BASELINE):
            await asyncio.sleep(span * 0.4)
        await drill.observer.switch_database(mode, seconds=span, patience=30)
        drill.note(f"database {mode}")
        with drill.phase(Phase.FAULT):
            await asyncio.sleep(span * 0.4)
        await drill.observer.switch_database("up", patience=30)
        await drill.calm(span * 0.2)


def _postgres(drill: Drill) -> PostgresServer:
    if drill.stores.postgres is None:
        raise LookupError("this drill needs a PostgreSQL")
    return drill.stores.postgres


def _stop(drill: Drill) -> None:
    _postgres(drill).stop()


def _start(drill: Drill) -> None:
    _postgres(drill).start()


def _pause(drill: Drill) -> None:
    _postgres(drill).pause()


def _resume(drill: Drill) -> None:
    _postgres(drill).resume()


class _Rogues:
    """Connections that somebody else holds on to."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def lock(self, drill: Drill) -> None:
        """A transaction that locks every table and stays open."""
        connection = self._held.enter_context(_postgres(drill).connect("nightmail"))
        connection.execute("BEGIN")
        connection.execute(f"LOCK TABLE {_TABLES} IN ACCESS EXCLUSIVE MODE")

    def crowd(self, drill: Drill) -> None:
        """All connections there are, each idle in a transaction; those of the stack are ended first."""
        server = _postgres(drill)
        with server.connect() as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'nightmail'")
        try:
            while True:
                connection = self._held.enter_context(server.connect("nightmail"))
                connection.execute("BEGIN")
        except psycopg.OperationalError:  # too many clients already
            return

    def go(self, _: Drill) -> None:
        """Let go of all."""
        self._held.close()


def _drop(drill: Drill) -> None:
    with _postgres(drill).connect("nightmail") as admin:
        admin.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def _nothing(_: Drill) -> None:
    """The stack mends it by itself."""


async def flapping(drill: Drill) -> None:
    """Stopped and started again and again; after a time of health."""
    with drill.phase(Phase.BASELINE):
        await asyncio.sleep(drill.seconds * 0.4)
    end = asyncio.get_running_loop().time() + drill.seconds * 0.5
    with drill.phase(Phase.FAULT):
        while asyncio.get_running_loop().time() < end:
            await asyncio.to_thread(_stop, drill)
            await asyncio.sleep(_FLAP)
            await asyncio.to_thread(_start, drill)
            await asyncio.sleep(_FLAP)


def _rogue(name: str) -> Breakage:
    rogues = _Rogues()
    return Breakage(f"database {name}", rogues.lock if name == "locked" else rogues.crowd, rogues.go)


stopped = rounds(Breakage("database stopped", _stop, _start))
hung = rounds(Breakage("database hung", _pause, _resume))
locked = rounds(_rogue("locked"))
exhausted = rounds(_rogue("exhausted"))
dropped = rounds(Breakage("tables dropped", _drop, _nothing))
