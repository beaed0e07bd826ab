"""The logins of a protected database: who may do what, over how many connections, and for how long.

The owner of the tables cannot log in; who can log in owns nothing. Applied by history/protect.py.
"""

from dataclasses import dataclass
from datetime import timedelta

from runtime.clock import ms_of

OWNER = "nightmail_owner"
SCHEMA = "public"  # of our tables
GUARD = "nightmail_guard"  # of the guards: they must not fall with what they guard

_NEVER = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT"


@dataclass(frozen=True, slots=True)
class Role:
    """A login. The limit on connections binds; the timeouts are what a session begins with, and it may change them."""

    name: str
    connections: int
    statement: timedelta
    idle_in_transaction: timedelta
    idle: timedelta
    lock: timedelta = timedelta(seconds=1)

    @property
    def short(self) -> str:
        """The name less the prefix: as options and settings call it."""
        return self.name.removeprefix("nightmail_")

    @property
    def timeouts(self) -> dict[str, int]:
        """PostgreSQL's settings, in milliseconds."""
        return {
            "statement_timeout": ms_of(self.statement),
            "lock_timeout": ms_of(self.lock),
            "idle_in_transaction_session_timeout": ms_of(self.idle_in_transaction),
            "idle_session_timeout": ms_of(self.idle),
        }


def _seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


MIGRATE = Role("nightmail_migrate", 2, _seconds(600), _seconds(60), _seconds(600), lock=_seconds(5))
RECORDER = Role("nightmail_recorder", 8, _seconds(10), _seconds(20), _seconds(60))
CONTROL = Role("nightmail_control", 16, _seconds(2), _seconds(4), _seconds(300))
# Dashboards, notebooks, people: February 2026 began with such a client. It gets little, and loses what it leaves idle.
READONLY = Role("nightmail_readonly", 20, _seconds(10), _seconds(5), _seconds(8))

LOGINS = (MIGRATE, RECORDER, CONTROL, READONLY)


def attributes(role: Role) -> list[str]:
    """The statements that make an existing role what it should be. The same again changes nothing."""
    login = f"ALTER ROLE {role.name} LOGIN {_NEVER} CONNECTION LIMIT {role.connections}"
    return [login, *(f"ALTER ROLE {role.name} SET {name} = {value}" for name, value in role.timeouts.items())]


OWNER_ATTRIBUTES = f"ALTER ROLE {OWNER} NOLOGIN {_NEVER} CONNECTION LIMIT 0"
