"""Which requests are kept for GET /logs, and how: gathered in memory, written once a second, dropped rather than late.

Kept is what an API key asked for, less the sends that were taken, which GET /emails shows anyway, and the reading of
the log itself. Nothing that a client sent is kept but its path, and of answers only the refusals: no content of mail,
no token, no secret.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Self

import orjson
from starlette.types import Scope

from api.limits import SENDING
from outbox.errors import OutboxError
from outbox.request_log import LoggedRequest, RequestLog
from runtime import clock
from runtime.connections import StoreError
from runtime.logs import get
from runtime.tasks import end

log = get(__name__)

_PAUSE = 1.0  # seconds
_MOST = 100  # of one pause
_LONGEST = 256  # of a path or a user agent
_REFUSED = 400
_OWN = "/logs"


class RequestKeeper:
    """One per process, a context in which it writes. `note` is called after each answer."""

    def __init__(self, ring: RequestLog) -> None:
        self._ring = ring
        self._waiting: list[LoggedRequest] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to write."""
        self._task = asyncio.create_task(self._write_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what is left, and end."""
        await end(self._task)
        await self._write()

    def note(self, scope: Scope, facts: Mapping[str, Any]) -> None:
        """Keep the request if it is of interest and there is room."""
        status, path = facts.get("status", 0), scope["path"]
        if "key" not in facts or (path in SENDING and scope["method"] == "POST" and status < _REFUSED):
            return
        if path.startswith(_OWN) or len(self._waiting) >= _MOST:
            return
        agent = next((value for name, value in scope["headers"] if name == b"user-agent"), None)
        self._waiting.append(
            LoggedRequest(
                at=clock.now(),
                method=scope["method"],
                endpoint=path[:_LONGEST],
                status=status,
                user_agent=None if agent is None else agent.decode("latin-1")[:_LONGEST],
                answer=_read(facts.get("refusal")),
            )
        )

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE)
            await self._write()

    async def _write(self) -> None:
        requests, self._waiting = self._waiting, []
        if not requests:
            return
        try:
            await self._ring.append(requests)
        except (*StoreError, OutboxError) as failure:
            log.info("requests.not_kept", count=len(requests), error=type(failure).__name__)


def _read(refusal: bytes | None) -> dict[str, Any] | None:
    try:
        answer = orjson.loads(refusal or b"null")
    except orjson.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None
