"""A submission server on loopback, for each test its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from outbox.ratelimit import RateLimiter
from runtime.settings import Settings
from smtp.server import SubmissionServer
from tests.unit.smtp.dialogue import Dialogue, Place, RememberingAcceptor, RememberingPolicy

Opener = Callable[..., Awaitable[Place]]


@pytest.fixture
async def open_place(tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens a server with settings of the test's choice; stops it at the end."""
    async with AsyncExitStack() as stack:

        async def opener(**changes: Any) -> Place:
            fields = {"refuse_reserved_recipients": False, "smtp_hostname": "mail.test.example"} | changes
            settings = Settings(data_dir=tmp_path, smtp_port=0, smtps_port=0, **fields)
            acceptor, policy = RememberingAcceptor(), RememberingPolicy()
            server = SubmissionServer(
                settings, acceptor=acceptor, policy=policy, ratelimiter=RateLimiter(settings.rate_limit)
            )
            await server.start()
            stack.push_async_callback(server.stop)
            return Place(server, settings, acceptor, policy)

        yield opener


@pytest.fixture
async def place(open_place: Opener) -> Place:
    """A server with the settings of the embedded stack."""
    return await open_place()


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Dialogue]:
    """A client that is connected by TLS and logged in."""
    async with await place.client() as dialogue:
        await dialogue.log_in()
        yield dialogue
