"""The chaos switch: makes the main database fail on purpose, to see that mail does not care.

The mode lies in the queue and expires by itself; each process reads it where it hands out connections. If the queue is
away the database behaves as it is.
"""

import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
from redis import Redis
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from history import schema
from history.engine import Database
from history.errors import ChaosForbidden, ChaosInvalid, HistoryUnavailable
from outbox.errors import Unavailable
from runtime import logs
from runtime.clock import from_ms, now, to_ms
from runtime.connections import StoreError, redis_sync
from runtime.settings import Settings

log = logs.get(__name__)

LONGEST_SECONDS = 3600
_CACHED = 0.2  # seconds for which a process believes what it read
_CACHED_BLIND = 1.0  # and for which it does not ask a queue again that did not answer


class Mode(StrEnum):
    """What the database does."""

    UP = "up"  # as it is
    DOWN = "down"  # refuses connections
    SLOW = "slow"  # hands out a connection later than readers wait for one
    EXHAUSTED = "exhausted"  # all connections are taken
    DROPPED = "dropped"  # the tables are gone, and nobody may create them until the mode ends


@dataclass(frozen=True, slots=True)
class ChaosState:
    """The mode in force, and when it ends; None with `up`."""

    mode: Mode = Mode.UP
    until: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as `GET /chaos/database` answers it."""
        return {"mode": self.mode, "until": self.until.isoformat() if self.until else None}


_UP = ChaosState()


class Chaos:
    """The switch of one stack. `gate` is what engine.Database asks before each hand-out."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._key = f"{{{settings.queue_prefix}}}:chaos:database"
        self._delay = 1.5 * settings.database_acquire_timeout.total_seconds()
        self._cached = _UP
        self._cached_until = 0.0
        self._lock = threading.Lock()

    @classmethod
    def open(cls, settings: Settings) -> "Chaos":
        """With a client of its own that waits but shortly: a queue that hangs must not make the database look ill."""
        return cls(redis_sync(settings, timeout=_CACHED), settings)

    def get(self) -> ChaosState:
        """The state in force now. Never fails: without a switch, or without the queue, the mode is `up`."""
        if not self._settings.chaos:
            return _UP
        try:
            return self._read()
        except StoreError:
            return _UP

    def set(self, mode: str, for_seconds: float = 60) -> ChaosState:
        """Switch to `mode` for that long; `dropped` drops the tables, `up` ends whatever is in force.

        Raises ChaosForbidden, ChaosInvalid, Unavailable (no queue), HistoryUnavailable (the tables to drop are away).
        """
        if not self._settings.chaos:
            raise ChaosForbidden("the chaos switch is off; NIGHTMAIL_CHAOS=true turns it on")
        if mode not in set(Mode):
            raise ChaosInvalid(f"mode is one of {', '.join(Mode)}")
        if not 1 <= for_seconds <= LONGEST_SECONDS:
            raise ChaosInvalid(f"for_seconds lies between 1 and {LONGEST_SECONDS}")
        try:
            state = self._store(Mode(mode), timedelta(seconds=for_seconds))
        except StoreError as error:
            raise Unavailable("the chaos switch lies in the queue, which is away") from error
        self._cached_until = 0.0
        log.warning("chaos.switched", mode=state.mode, until=state.until)
        return state

    def gate(self, patience: float) -> None:
        """Fail, or be slow, as the mode says. Raises what SQLAlchemy raises when it happens by itself."""
        match self._mode():
            case Mode.DOWN:
                raise OperationalError("chaos: down", None, ConnectionRefusedError("chaos: down"))
            case Mode.EXHAUSTED:
                time.sleep(min(patience, self._settings.database_acquire_timeout.total_seconds()))
                raise PoolTimeout("chaos: every connection is taken")
            case Mode.SLOW:
                time.sleep(min(patience, self._delay))
                if patience < self._delay:
                    raise PoolTimeout("chaos: no connection in time")

    def _mode(self) -> Mode:
        """The mode, read from the queue at most once in `_CACHED` seconds; others use the old word meanwhile."""
        if not self._settings.chaos:
            return Mode.UP
        if time.monotonic() >= self._cached_until and self._lock.acquire(blocking=False):
            try:
                self._cached, lasts = self._read(), _CACHED
            except StoreError:
                self._cached, lasts = _UP, _CACHED_BLIND
            finally:
                self._lock.release()
            self._cached_until = time.monotonic() + lasts
        return self._cached.mode

    def _read(self) -> ChaosState:
        raw: Any = self._redis.get(self._key)
        if raw is None:
            return _UP
        fields = orjson.loads(raw)
        return ChaosState(Mode(fields["mode"]), from_ms(fields["until"]))

    def _store(self, mode: Mode, lasts: timedelta) -> ChaosState:
        if mode is Mode.UP:
            self._redis.delete(self._key)
            return _UP
        until = now() + lasts
        value = orjson.dumps({"mode": mode, "until": to_ms(until)})
        self._redis.set(self._key, value, px=int(lasts.total_seconds() * 1000))
        if mode is Mode.DROPPED:
            self._drop()
        return ChaosState(mode, until)

    def _drop(self) -> None:
        """Drop the tables. The mode was set before, or a recorder would create them again at once."""
        long = timedelta(seconds=5)  # a recorder that catches up leaves SQLite's write lock but for moments
        database = Database.open(self._settings, "chaos", patience=long, limit=long, writer=True)
        try:
            schema.drop(database.engine)
        except SQLAlchemyError as error:
            self._redis.delete(self._key)
            raise HistoryUnavailable("the tables could not be dropped") from error
        finally:
            database.close()
