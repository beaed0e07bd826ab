"""The mistake of February 2024, made in every way there is: each guard tried alone, with the others out of the way."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import SQLAlchemyError

from history import schema
from history.guards import Permit, ProductionRefused
from history.tables import metadata
from nightmail.replay.database import LiveDatabase
from runtime.clock import now

_DESTRUCTIVE = ("DROP TABLE public.emails", "DROP SCHEMA public CASCADE", "TRUNCATE public.events")
_TRIGGERS = ("nightmail_guard_start", "nightmail_guard_drop", "nightmail_guard_end")
_LOGINS = ("nightmail_migrate", "nightmail_recorder")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try, the guard that stood alone against it, and whether it refused."""

    words: str
    guard: str
    refused: bool


def make_them(live: LiveDatabase) -> list[Attempt]:
    """All of them. Each is a transaction that is rolled back, should it ever succeed."""
    attempts = [*_against_the_program(live), *_against_the_triggers(live)]
    live.force(*(f"ALTER EVENT TRIGGER {trigger} DISABLE" for trigger in _TRIGGERS))
    try:
        attempts += _against_the_rights(live)
    finally:
        live.force(*(f"ALTER EVENT TRIGGER {trigger} ENABLE ALWAYS" for trigger in _TRIGGERS))
    return attempts


def _against_the_program(live: LiveDatabase) -> Iterator[Attempt]:
    """As a superuser, who has all rights, with the programs that a developer runs, meant for a developer's machine."""
    local = Permit("a feature", "local")
    tries: dict[str, Callable[[sa.Connection], object]] = {
        "alembic downgrade base": _downgrade,
        "metadata.drop_all()": metadata.drop_all,
    }
    with live.opened("postgres") as database:
        for words, mistake in tries.items():
            with database.connect() as connection:
                yield Attempt(words, "program", _is_refused(partial(mistake, connection)))
        refused = _is_refused(lambda: schema.rebuild(database.engine, now(), local))
        yield Attempt("rebuild with the name of another database", "program", refused)


def _downgrade(connection: sa.Connection) -> None:
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", "history:migrations")
    config.attributes["connection"] = connection
    command.downgrade(config, "base")


def _is_refused(mistake: Callable[[], object]) -> bool:
    """Only our own refusal counts: an error of another kind proves nothing about the guard."""
    try:
        mistake()
    except ProductionRefused:
        return True
    except SQLAlchemyError:
        return False
    return False


def _against_the_triggers(live: LiveDatabase) -> Iterator[Attempt]:
    """By hand, as a superuser, whom no right stops."""
    for statement in _DESTRUCTIVE:
        yield Attempt(f"{statement} as postgres", "triggers", _is_forbidden(live, "postgres", statement))


def _against_the_rights(live: LiveDatabase) -> Iterator[Attempt]:
    """By hand, as the logins that programs have, with the event triggers switched off."""
    for login in _LOGINS:
        for statement in _DESTRUCTIVE:
            yield Attempt(f"{statement} as {login}", "rights", _is_forbidden(live, login, statement))


def _is_forbidden(live: LiveDatabase, login: str, statement: str) -> bool:
    with live.connect(login) as connection:
        connection.autocommit = False
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return True
        finally:
            connection.rollback()
    return False
