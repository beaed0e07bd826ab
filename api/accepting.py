"""POST /emails and POST /emails/batch between the route and the outbox: compose, then accept.

This is the hot path. Nothing here waits but `accept`, and only large requests take a thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request

from api.compose import Composer
from api.errors import ApiError, invalid
from api.fetching import MARK, Fetched, Fetcher, with_files
from api.idempotency import identify, read_key
from api.request import decode
from outbox.accept import Acceptor, Submission
from outbox.ids import Idempotency
from outbox.policy import ApiKey
from runtime.settings import Settings

Mode = Literal["strict", "permissive"]

_LARGE = 256 * 1024  # octets of a body that would hold up the event loop for more than a few milliseconds
_BATCH_LARGE = 32 * 1024  # a batch of as many octets has more messages in it, and more work


@dataclass(frozen=True, slots=True)
class Refused:
    """A message of a permissive batch that was not taken."""

    index: int
    message: str


@dataclass(frozen=True, slots=True)
class Composed:
    """A whole request, ready to be accepted."""

    submissions: tuple[Submission, ...]
    refused: tuple[Refused, ...]
    idempotency: Idempotency | None


class Intake:
    """Takes requests to send. One per app."""

    def __init__(self, settings: Settings, acceptor: Acceptor, composer: Composer, fetcher: Fetcher) -> None:
        self._settings = settings
        self._acceptor = acceptor
        self._composer = composer
        self._fetcher = fetcher

    async def one(self, request: Request, key: ApiKey) -> str:
        """The id of the message, durable. Raises ApiError, Unavailable, IdempotencyConflict."""
        idempotency_key = read_key(request)
        body = await request.body()
        fetched = await self._fetch(body)

        def compose() -> Composed:
            item = decode(body)
            idempotency = identify(idempotency_key, scope="POST /emails", parsed=item)
            return self._compose([item], fetched, key, idempotency, mode="strict")

        composed = await self._run(compose, body, large=_LARGE)
        return (await self._accept(request, composed))[0]

    async def batch(self, request: Request, key: ApiKey, mode: Mode) -> tuple[tuple[str, ...], tuple[Refused, ...]]:
        """The ids, and what was refused; in strict mode the first refusal is raised and nothing is taken."""
        idempotency_key = read_key(request)
        body = await request.body()
        fetched = await self._fetch(body)

        def compose() -> Composed:
            items = self._items(body)
            idempotency = identify(idempotency_key, scope="POST /emails/batch", parsed=items)
            return self._compose(items, fetched, key, idempotency, mode=mode)

        composed = await self._run(compose, body, large=_BATCH_LARGE)
        ids = await self._accept(request, composed) if composed.submissions else ()
        return ids, composed.refused

    async def _run(self, work: Callable[[], Composed], body: bytes, *, large: int) -> Composed:
        # Words for a time take milliseconds to read, and a second the first time; a template may be a long text.
        if len(body) > large or b'"scheduled_at"' in body or b'"template"' in body:
            return await self._acceptor.door.in_thread(work, len(body))
        return work()

    def _items(self, body: bytes) -> list[Any]:
        items = decode(body)
        if not isinstance(items, list) or not 1 <= len(items) <= self._settings.max_batch:
            raise invalid(f"The request body must be an array of 1 to {self._settings.max_batch} emails.")
        return items

    async def _fetch(self, body: bytes) -> Fetched:
        """Attachments by URL. Decoding twice is cheaper than the network, and spares all others the question."""
        if MARK not in body:
            return {}
        return await self._fetcher.fetch(await self._acceptor.door.in_thread(lambda: decode(body), len(body)))

    def _compose(
        self, items: list[Any], fetched: Fetched, key: ApiKey, idempotency: Idempotency | None, *, mode: Mode
    ) -> Composed:
        ids = self._acceptor.mint(len(items), idempotency)
        submissions: list[Submission] = []
        refused: list[Refused] = []
        for index, item in enumerate(items):
            try:
                # Ids go to those taken, in order and without gaps: a repeat derives them again from their number.
                message_id = ids[len(submissions)]
                email = self._composer.read(with_files(item, fetched))
                submissions.append(self._composer.compose(email, key, message_id=message_id))
            except ApiError as refusal:
                if mode == "strict":
                    raise
                refused.append(Refused(index, refusal.message))
        return Composed(tuple(submissions), tuple(refused), idempotency)

    async def _accept(self, request: Request, composed: Composed) -> tuple[str, ...]:
        accepted = await self._acceptor.accept(composed.submissions, composed.idempotency)
        request.scope["facts"] |= {"ids": accepted.ids, "replayed": accepted.replayed}
        return accepted.ids
