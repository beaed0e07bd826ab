"""What is asked of the stack all the time while things break: its backlog, its history, its keys."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from nightmail.client_details import ClientDetails
from runtime.cut_off import cut_off_as

_EVERY = 0.25  # seconds between two questions of a kind
_LIMIT = 10.0  # seconds for an answer; far more than any may take
_WRONG_KEY = "re_12345678_123456789012345678901234"
_REFUSALS = {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}


@dataclass(frozen=True, slots=True)
class RecorderWord:
    """The recorder's part of the backlog at one wall clock time."""

    at: float
    state: str
    error: str
    checkpoint: int
    behind: int
    lag: float


@dataclass(frozen=True, slots=True)
class HistoryAnswer:
    """One `GET /emails`: when, how long it took, its status, and whether it had all of the history."""

    at: float
    seconds: float
    status: int
    complete: bool
    retry_after: bool


@dataclass(slots=True)
class Watch:
    """Asks until it is left. What no process answers (one that was killed) is counted and asked again."""

    details: ClientDetails
    recorder: list[RecorderWord] = field(default_factory=list)
    history: list[HistoryAnswer] = field(default_factory=list)
    keys_asked: int = 0
    keys_wrong: int = 0
    unanswered: int = 0
    _asking: list[asyncio.Task[None]] = field(default_factory=list)
    _client: httpx.AsyncClient = field(init=False)

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(base_url=self.details.url, timeout=_LIMIT, trust_env=False)
        questions: tuple[Callable[[], Coroutine[Any, Any, None]], ...]
        questions = (self._ask_backlog, self._ask_history, self._ask_with_wrong_key)
        self._asking = [asyncio.create_task(self._keep(question)) for question in questions]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self._client.aclose()

    async def until(self, condition: Callable[[], bool], *, seconds: float) -> float | None:
        """Wait until it holds, looking at what was heard; seconds that took, None if it never did."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            if condition():
                return time.monotonic() - began
            await asyncio.sleep(0.05)
        return None

    def in_step(self, *, since: float) -> bool:
        """Whether the recorder said, after `since` (wall clock), that it is well and misses nothing to speak of."""
        word = self.recorder[-1] if self.recorder else None
        return word is not None and word.at > since and word.state == "ok" and word.lag < 1

    def history_is_whole(self, *, since: float) -> bool:
        """Whether the last list, asked for after `since`, came from the history too."""
        answer = self.history[-1] if self.history else None
        return answer is not None and answer.at > since and answer.complete

    async def _keep(self, question: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                with cut_off_as(httpx.ConnectError):
                    await question()
            except httpx.HTTPError:
                self.unanswered += 1
            await asyncio.sleep(_EVERY)

    async def _ask_backlog(self) -> None:
        asked_at = time.time()
        answer = await self._get("/backlog", self.details.api_key)
        self.keys_asked += 1
        if answer.status_code in _REFUSALS:
            self.keys_wrong += 1
        if answer.is_success:
            word = answer.json()["recorder"]
            self.recorder.append(
                RecorderWord(
                    asked_at, word["state"], word["error"], word["checkpoint"], word["behind"], word["behind_seconds"]
                )
            )

    async def _ask_history(self) -> None:
        began, asked_at = time.monotonic(), time.time()
        answer = await self._get("/emails?limit=1", self.details.api_key)
        self.history.append(
            HistoryAnswer(
                asked_at,
                time.monotonic() - began,
                answer.status_code,
                complete=answer.is_success and "nightmail-history" not in answer.headers,
                retry_after="retry-after" in answer.headers,
            )
        )

    async def _ask_with_wrong_key(self) -> None:
        answer = await self._get("/backlog", _WRONG_KEY)
        self.keys_asked += 1
        self.keys_wrong += answer.status_code not in _REFUSALS

    async def _get(self, path: str, key: str) -> httpx.Response:
        return await self._client.get(path, headers={"Authorization": f"Bearer {key}"})
