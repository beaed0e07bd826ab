"""Attachments by URL: fetched while the client waits, through the guard of runtime/outside.py.

The message must be whole before it is accepted, so what cannot be fetched refuses the message. What may be better next
time (no answer, a 5xx) is a 503; what the client can mend is a 422.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from api.errors import ApiError, invalid, unavailable
from outbox.errors import Overloaded
from runtime.logs import get
from runtime.outside import Answer, Outside, Refused, Unreachable

log = get(__name__)

MARK = b'path"'  # a body without it has nothing to fetch; one octet more, and the look takes twice as long
_MOST = 20  # URLs of one request
_SECONDS = 10.0
_SECONDS_IN_ALL = 30.0  # for all URLs of a request
_AT_ONCE = 16  # requests that fetch; each may have files of a whole message in memory
_OK = 200
_SERVER_ERROR = 500

Fetched = dict[str, Answer | ApiError]


class Fetcher:
    """One per app. `most` is the room for all files of a request, in octets; `wait` the longest wait for a turn."""

    def __init__(self, outside: Outside, *, most: int, wait: timedelta) -> None:
        self._outside = outside
        self._most = most
        self._wait = wait.total_seconds()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One of the few requests that may fetch at once. Raises Overloaded when others take too long."""
        try:
            async with asyncio.timeout(self._wait):
                await self._turns.acquire()
        except TimeoutError:
            raise Overloaded("too many requests fetch attachments") from None
        try:
            yield
        finally:
            self._turns.release()

    async def fetch(self, urls: Sequence[str], *, all_needed: bool) -> Fetched:
        """What is behind each URL, or why it cannot be had. One after the other: room and time are shared.

        Where all are needed, the first that cannot be had is the last that is asked.
        """
        fetched: Fetched = {}
        room, deadline = self._most, time.monotonic() + _SECONDS_IN_ALL
        for url in urls:
            fetched[url] = found = await self._ask(url, room, deadline - time.monotonic())
            if isinstance(found, Answer):
                room -= len(found.body)
            elif all_needed:
                break
        return fetched

    async def _ask(self, url: str, room: int, left: float) -> Answer | ApiError:
        if left <= 0:
            return unavailable()
        seconds = min(_SECONDS, left)
        try:
            answer = await self._outside.ask("GET", url, headers={"accept": "*/*"}, most=room, seconds=seconds)
        except Refused as reason:
            return _refusal(f"`path` cannot be fetched: {reason}.")
        except Unreachable as failure:
            log.warning("attachment.unreachable", error=str(failure))
            return unavailable()
        if answer.status >= _SERVER_ERROR:
            return unavailable()
        if answer.status != _OK:
            return _refusal(f"`path` cannot be fetched: the answer was {answer.status}.")
        return answer if answer.whole else _refusal("The files are too large.")


def urls_of(items: Any) -> list[str]:
    """The URLs to fetch for an email or a list of them, each once. Raises ApiError when there are too many."""
    urls = list(dict.fromkeys(_urls(items if isinstance(items, list) else [items])))
    if len(urls) > _MOST:
        raise _refusal(f"There are more than {_MOST} files to fetch.")
    return urls


def with_files(item: Any, fetched: Fetched) -> Any:
    """The email with the octets in the place of URLs. Raises the ApiError of a file that could not be had.

    What was not asked after a failure comes later in the emails than the failure, so it is never missed here.
    """
    if not fetched or not isinstance(item, dict) or not isinstance(item.get("attachments"), list):
        return item
    return item | {"attachments": [_with_content(file, fetched) for file in item["attachments"]]}


def _with_content(file: Any, fetched: Fetched) -> Any:
    if not _is_wanted(file):
        return file
    found = fetched[file["path"]]
    if isinstance(found, ApiError):
        raise found
    name = file.get("filename") or unquote(urlsplit(file["path"]).path.rpartition("/")[2])
    return file | {"content": found.body, "filename": name}


def _urls(items: Iterable[Any]) -> Iterator[str]:
    for item in items:
        files = item.get("attachments") if isinstance(item, dict) else None
        for file in files if isinstance(files, list) else ():
            if _is_wanted(file):
                yield file["path"]


def _is_wanted(file: Any) -> bool:
    """Whether it names a URL and brings no content of its own."""
    return isinstance(file, dict) and file.get("content") in (None, "") and isinstance(file.get("path"), str)


def _refusal(message: str) -> ApiError:
    return invalid(f"Invalid `attachments` field. {message}")
