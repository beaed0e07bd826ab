"""The protected database of a replay: its logins, what is done to it, and its rows held against the ledger."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import sqlalchemy as sa
from pydantic import SecretStr

from history.engine import Database
from history.guards import Environment, Mark
from history.protect import Wish, protect
from history.roles import LOGINS
from nightmail.demo.ledger import Ledger
from nightmail.replay.postgres import Postgres
from runtime.clock import now
from runtime.settings import Settings

NAME = "history"
MARK = Mark("replay", Environment.PRODUCTION)
_LIMIT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Rows:
    """The tables against the ledger: emails missing and too many, not delivered, and events not there just once."""

    missing: int
    extra: int
    undelivered: int
    events_wrong: int


class LiveDatabase:
    """One database on a server that may be exchanged for another one with the same port."""

    def __init__(self, server: Postgres, passwords: Mapping[str, str]) -> None:
        self.server = server
        self.passwords = passwords

    def at(self, port: int) -> "LiveDatabase":
        """The same on another port."""
        return LiveDatabase(Postgres(self.server.folder, port=port), self.passwords)

    def make(self) -> None:
        """Create and protect it, as production."""
        with self.server.connect("postgres") as admin:
            admin.execute(f"CREATE DATABASE {NAME}")
        self.protect()

    def protect(self) -> None:
        """`nightmail database protect`."""
        with self.opened("postgres") as database:
            protect(database.engine, MARK, Wish(self.passwords), now=now())

    def url(self, login: str) -> str:
        """Its URL for a login."""
        password = self.passwords.get(login)
        url = sa.URL.create("postgresql+psycopg", login, password, "127.0.0.1", self.server.port, NAME)
        return url.render_as_string(hide_password=False)

    @contextmanager
    def opened(self, login: str) -> Iterator[Database]:
        """As our commands open it."""
        settings = Settings(database_url=SecretStr(self.url(login)))
        database = Database.open(settings, "replay", limit=_LIMIT, patience=_LIMIT)
        try:
            yield database
        finally:
            database.close()

    def connect(self, login: str = "postgres", database: str = NAME) -> psycopg.Connection:
        """As a person at a terminal."""
        return self.server.connect(database, user=login, password=self.passwords.get(login, ""))

    def force(self, *statements: str) -> None:
        """As a superuser who switches the guards off first: nothing in a database stops that."""
        with self.connect() as admin:
            admin.execute("SET event_triggers = off")
            for statement in statements:
                admin.execute(statement.encode())

    def compare(self, ledger: Ledger) -> Rows:
        """Every row against what the clients heard."""
        taken = set(ledger.receipts)
        like = f"%{ledger.run}%"
        with self.connect() as admin:
            emails = [ledger.number(row[0]) for row in admin.execute(_EMAILS, (like,))]
            delivered = _count(admin, _DELIVERED, like)
            accepted = _count(admin, _ACCEPTED, like)
            unlike = _count(admin, _HOLES) + abs(accepted - len(emails))
        recorded = set(emails)
        return Rows(
            missing=len(taken - recorded),
            extra=len(recorded - taken - set(ledger.refusals)) + len(emails) - len(recorded),
            undelivered=abs(len(emails) - delivered),
            events_wrong=unlike,
        )


_EMAILS = "SELECT subject FROM emails WHERE subject LIKE %s"
_OURS = "SELECT id FROM emails WHERE subject LIKE %s"
_DELIVERED = f"SELECT count(DISTINCT email_id) FROM recipients WHERE state = 'delivered' AND email_id IN ({_OURS})"  # noqa: S608  (a constant)
_ACCEPTED = f"SELECT count(*) FROM events WHERE kind = 'accepted' AND email_id IN ({_OURS})"  # noqa: S608  (a constant)
_HOLES = "SELECT greatest((SELECT number FROM checkpoint), max(number)) - count(*) FROM events"


def new_passwords(secret: str) -> dict[str, str]:
    """One for each login."""
    return {role.name: f"{role.short}-{secret}" for role in LOGINS}


def _count(admin: psycopg.Connection, query: str, *parameters: str) -> int:
    row = admin.execute(query.encode(), parameters or None).fetchone()
    return int(row[0] or 0) if row else 0
