"""Our side: the whole product as `nightmail up` starts it, with its own durability, in front of a sink.

Only what a relay needs is set: where mail goes, who may send, and rates that a load does not meet.
"""

import os
import signal
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from nightmail.stack_folder import StackFolder, read_environment
from runtime.settings import Settings
from tests.fixtures.stack import UpStack

_LAXNESS = {
    "route": "smarthost",
    "smarthost_host": "127.0.0.1",
    "smarthost_tls": "none",
    "smtp_trusted_networks": "127.0.0.0/8",
    "rate_limit": "1000000",
}


class Nightmail:
    """`with Nightmail(folder, sink_port) as stack:` runs until the end of the block. `settings` are added.

    `under` is a command line that runs the whole of it, as strace.
    """

    name = "Nightmail"

    def __init__(self, folder: Path, sink_port: int, *, under: Sequence[str] = (), **settings: str) -> None:
        self._stack = UpStack(folder, under=under, **_LAXNESS | {"smarthost_port": str(sink_port)} | settings)
        self._folder = folder

    def __enter__(self) -> Self:
        self._stack.__enter__()
        state = self._stack.state
        self.smtp_port: int = state["ports"]["smtp_port"]
        self.api_port: int = state["ports"]["api_port"]
        self.token = self._stack.details.api_key
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._stack.under and self._stack.process.poll() is None:  # a tracer passes no signal on
            os.kill(self._stack.state["pid"], signal.SIGINT)
            self._stack.process.wait(timeout=60)
        self._stack.__exit__(kind, error, at)

    def roots(self) -> dict[str, int]:
        """Each process by its name."""
        return self._stack.pids

    def settings(self) -> Settings:
        """For parts that look at this stack's stores."""
        written = read_environment(StackFolder(self._folder).stack_env)
        fields: dict[str, Any] = {name.removeprefix("NIGHTMAIL_").lower(): value for name, value in written.items()}
        return Settings(**self._stack.settings | fields)

    def get(self, path: str) -> dict[str, Any]:
        """An answer of the API. Its time is measured, so no client is used that needs more of it than the server."""
        connection = HTTPConnection("127.0.0.1", self.api_port, timeout=30)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            answer: dict[str, Any] = orjson.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer

    def switch_database(self, mode: str) -> None:
        """The chaos switch."""
        self._stack.api("POST", "/chaos/database", json={"mode": mode, "for_seconds": 600}).raise_for_status()

    def make_domain(self, name: str) -> None:
        """From now on mail of this domain is signed."""
        self._stack.api("POST", "/domains", json={"name": name}).raise_for_status()
