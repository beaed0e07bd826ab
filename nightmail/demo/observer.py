"""What the demo asks the stack while it sends and afterwards: mailbox, backlog, chaos switch, history."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Self

import httpx

from nightmail.client_details import ClientDetails
from runtime.cut_off import cut_off_as

_PAGE = 100  # of GET /emails
_MAILBOX_PAGE = 5_000
_PATIENCE = 20.0  # seconds: what is being started again is asked again
_PAUSE = 0.2


class Observer:
    """One client for the API and one for the mailbox."""

    def __init__(self, details: ClientDetails, mailbox_url: str) -> None:
        headers = {"Authorization": f"Bearer {details.api_key}"}
        self._api = httpx.AsyncClient(base_url=details.url, headers=headers, timeout=10, trust_env=False)
        self._mailbox = httpx.AsyncClient(base_url=mailbox_url, timeout=10, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.aclose()
        await self._mailbox.aclose()

    async def switch_database(self, mode: str, *, seconds: float = 120, patience: float = _PATIENCE) -> None:
        """The chaos switch; tried again for `patience` seconds where its own process may be gone."""
        body = {"mode": mode, "for_seconds": seconds}
        await _asked(partial(self._api.post, "/chaos/database", json=body), patience=patience)

    async def backlog(self) -> dict[str, Any]:
        """What waits."""
        return await _asked(partial(self._api.get, "/backlog"))

    async def recorder(self) -> dict[str, Any]:
        """The recorder's part of the backlog."""
        recorder: dict[str, Any] = (await self.backlog())["recorder"]
        return recorder

    async def arrived(self, subject: str, *, after: int = 0) -> list[dict[str, Any]]:
        """Messages of the mailbox whose subject holds `subject`, numbered above `after`."""
        found: list[dict[str, Any]] = []
        while True:
            query: dict[str, str | int] = {"subject": subject, "after": after, "limit": _MAILBOX_PAGE}
            page = (await _asked(partial(self._mailbox.get, "/messages", params=query)))["data"]
            found += page
            if len(page) < _MAILBOX_PAGE:
                return found
            after = page[-1]["n"]

    async def history(self, subject: str) -> list[dict[str, Any]]:
        """Emails of `GET /emails` whose subject holds `subject`, from the newest back to the first other one."""
        found: list[dict[str, Any]] = []
        query: dict[str, str | int] = {"limit": _PAGE}
        while True:
            page = await _asked(partial(self._api.get, "/emails", params=query))
            ours = [email for email in page["data"] if subject in email["subject"]]
            found += ours
            if not page["has_more"] or not ours:
                return found
            query["after"] = page["data"][-1]["id"]


async def _asked(question: Callable[[], Awaitable[httpx.Response]], *, patience: float = _PATIENCE) -> dict[str, Any]:
    """The answer's JSON, asked again while there is none. Raises httpx.HTTPError when patience is at its end."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with cut_off_as(httpx.ConnectError):
                answer: dict[str, Any] = (await question()).raise_for_status().json()
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_PAUSE)
        else:
            return answer
