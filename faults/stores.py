"""The stores that a drill breaks itself: outside the stack, whose supervisor would start them again at once."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nightmail.stack_folder import StackFolder
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.valkey import ValkeyServer


class Own(StrEnum):
    """A store that is the drill's."""

    VALKEY = "valkey"
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class Stores:
    """The servers. None: the stack has its own embedded one."""

    valkey: ValkeyServer | None = None
    postgres: PostgresServer | None = None

    def variables(self) -> dict[str, str]:
        """What tells a stack of them."""
        found = {}
        if self.valkey:
            found["NIGHTMAIL_REDIS_URL"] = self.valkey.url()
        if self.postgres:
            found["NIGHTMAIL_DATABASE_URL"] = self.postgres.url("nightmail")
        return found

    def database_url(self, folder: StackFolder) -> str:
        """SQLAlchemy's URL of the history."""
        return self.postgres.url("nightmail") if self.postgres else f"sqlite:///{folder.data_dir / 'history.sqlite'}"


@contextmanager
def stores(own: frozenset[Own]) -> Iterator[Stores]:
    """Start them; gone afterwards."""
    with ExitStack() as life:
        valkey = postgres = None
        if Own.VALKEY in own:
            folder = life.enter_context(tempfile.TemporaryDirectory(prefix="nightmail-valkey-"))
            valkey = life.enter_context(ValkeyServer(Path(folder)))
        if Own.POSTGRES in own:
            postgres = life.enter_context(PostgresServer(options={"fsync": "on"}))
            with postgres.connect() as admin:
                admin.execute("CREATE DATABASE nightmail")
        yield Stores(valkey, postgres)
