"""POST /emails and POST /emails/batch between the route and the outbox: compose, then accept.

This is the hot path. Nothing here waits but `accept`, and only large requests take a thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from starlette.types import Receive, Scope

from api.compose import Composer
from api.errors import ApiError, invalid
from api.fetching import MARK, Fetched, Fetcher, urls_of, with_files
from api.idempotency import identify, read_key
from api.limits import Visit
from api.reading import whole_body
from api.request import decode
from outbox.accept import Accepted, Acceptor, Submission, demand_size
from outbox.errors import IdempotencyConflict
from outbox.ids import Idempotency
from outbox.policy import ApiKey
from runtime.settings import Settings

Mode = Literal["strict", "permissive"]

_LARGE = 256 * 1024  # octets of a body that would hold up the event loop for more than a few milliseconds
_TRACKED_LARGE = 16 * 1024  # octets in which there may be dozens of links to sign
_BATCH_LARGE = 32 * 1024  # a batch of as many octets has more messages in it, and more work
_FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to send, as it came."""

    scope: Scope
    body: bytes
    idempotency_key: str | None
    mode: Mode
    may_fetch: bool  # whether it may name files to fetch: a look at all its octets, so only one

    @classmethod
    async def of(cls, scope: Scope, receive: Receive, *, mode: Mode = "strict") -> "Asked":
        """Read it whole. Raises ApiError 400 for a key that is none."""
        key = read_key(scope)
        body = await whole_body(receive)
        return cls(scope, body, key, mode, MARK in body)

    def identify(self, parsed: Any) -> Idempotency | None:
        """What makes a repeat of it, if it has a key."""
        # What was refused in one mode has no id, so in the other it is another request.
        whole = parsed if self.mode == "strict" else {self.mode: parsed}
        return identify(self.idempotency_key, scope=f"POST {self.scope['path']}", parsed=whole)


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


Compose = Callable[[Fetched], Composed]


class Intake:
    """Takes requests to send. One per app."""

    def __init__(self, settings: Settings, acceptor: Acceptor, composer: Composer, fetcher: Fetcher) -> None:
        self._settings = settings
        self._acceptor = acceptor
        self._composer = composer
        self._fetcher = fetcher

    async def one(self, scope: Scope, receive: Receive, key: ApiKey) -> str:
        """The id of the message, durable. Raises ApiError, Unavailable, TooLarge, IdempotencyConflict."""
        asked = await Asked.of(scope, receive)

        def compose(fetched: Fetched) -> Composed:
            item = decode(asked.body)
            return self._compose([item], fetched, key, asked.identify(item), mode="strict")

        return (await self._whole(asked, compose, large=_LARGE))[0]

    async def batch(
        self, scope: Scope, receive: Receive, key: ApiKey, mode: Mode
    ) -> tuple[tuple[str, ...], tuple[Refused, ...]]:
        """The ids, and what was refused; in strict mode the first refusal is raised and nothing is taken.

        Raises as `one` does, and IdempotencyConflict for a repeat of which nobody can say what it was answered.
        """
        asked = await Asked.of(scope, receive, mode=mode)

        def compose(fetched: Fetched) -> Composed:
            items = self._items(asked.body)
            return self._compose(items, fetched, key, asked.identify(items), mode=mode)

        if mode == "strict":
            return await self._whole(asked, compose, large=_BATCH_LARGE), ()
        composed = await self._run(asked, compose, large=_BATCH_LARGE)
        ids = await self._accept(asked, composed) if composed.submissions else await self._first_answer(asked)
        return ids, _refused_at_first(composed, ids)

    async def _whole(self, asked: Asked, compose: Compose, *, large: int) -> tuple[str, ...]:
        """The ids of a request that is taken as a whole. One that can no longer be composed may be a repeat."""
        if asked.may_fetch and (ids := await self._first_answer(asked)):  # before anything is fetched again
            return ids
        try:
            composed = await self._run(asked, compose, large=large)
        except ApiError as refusal:
            if refusal.status != _FORBIDDEN and (ids := await self._first_answer(asked)):
                return ids
            raise
        return await self._accept(asked, composed)

    async def _first_answer(self, asked: Asked) -> tuple[str, ...]:
        """The ids that an earlier request with this key and body was answered; none if there was none."""
        if asked.idempotency_key is None:
            return ()
        idempotency = await self._acceptor.door.in_thread(lambda: asked.identify(decode(asked.body)), len(asked.body))
        accepted = await self._acceptor.recognise(idempotency) if idempotency else None
        return self._told(asked, accepted) if accepted else ()

    async def _run(self, asked: Asked, compose: Compose, *, large: int) -> Composed:
        body = asked.body
        fetched = await self._fetch(asked) if asked.may_fetch else {}
        large = min(large, _TRACKED_LARGE) if self._composer.tracks else large
        # Words for a time take milliseconds to read, and a second the first time; a template may be a long text.
        if len(body) > large or b'"scheduled_at"' in body or b'"template"' in body:
            return await self._acceptor.door.in_thread(lambda: compose(fetched), len(body))
        return compose(fetched)

    def _items(self, body: bytes) -> list[Any]:
        items = decode(body)
        if not isinstance(items, list) or not 1 <= len(items) <= self._settings.max_batch:
            raise invalid(f"The request body must be an array of 1 to {self._settings.max_batch} emails.")
        return items

    async def _fetch(self, asked: Asked) -> Fetched:
        """Attachments by URL. Decoding twice is cheaper than the network, and spares all others the question.

        Other people's servers may be slow, so meanwhile the request has no place. Its turn to fetch ends when it has
        one again: this bounds the requests that hold files.
        """
        body = asked.body
        urls = await self._acceptor.door.in_thread(lambda: urls_of(decode(body)), len(body))
        if not urls:
            return {}
        visit: Visit = asked.scope["visit"]
        visit.step_out()
        async with self._fetcher.turn():
            fetched = await self._fetcher.fetch(urls, all_needed=asked.mode == "strict")
            await visit.enter()
            return fetched

    def _compose(
        self, items: list[Any], fetched: Fetched, key: ApiKey, idempotency: Idempotency | None, *, mode: Mode
    ) -> Composed:
        now = self._composer.now()
        ids = self._acceptor.mint(len(items), idempotency, now=now)
        submissions: list[Submission] = []
        refused: list[Refused] = []
        octets = 0
        for index, item in enumerate(items):
            try:
                # Ids go to those taken, in order and without gaps: a repeat derives them again from their number.
                message_id = ids[len(submissions)]
                email = self._composer.read(with_files(item, fetched))
                submissions.append(self._composer.compose(email, key, message_id=message_id, now=now))
                octets += len(submissions[-1].content)
                demand_size(octets)  # a file that is fetched once may be in every email
            except ApiError as refusal:
                if mode == "strict":
                    raise
                refused.append(Refused(index, refusal.message))
        return Composed(tuple(submissions), tuple(refused), idempotency)

    async def _accept(self, asked: Asked, composed: Composed) -> tuple[str, ...]:
        return self._told(asked, await self._acceptor.accept(composed.submissions, composed.idempotency))

    def _told(self, asked: Asked, accepted: Accepted) -> tuple[str, ...]:
        asked.scope["facts"] |= {"ids": accepted.ids, "replayed": accepted.replayed}
        return accepted.ids


def _refused_at_first(composed: Composed, ids: tuple[str, ...]) -> tuple[Refused, ...]:
    """What of a permissive batch has no id. Raises IdempotencyConflict when a repeat of it cannot tell.

    Only the number of ids is remembered. A refusal may be mended since, or a new one be there (a template, the policy),
    and then nobody knows any more whose ids they are.
    """
    count = len(composed.submissions) + len(composed.refused)
    if len(ids) == count:
        return ()
    if ids and len(ids) + len(composed.refused) != count:
        raise IdempotencyConflict("other messages of this batch were refused the first time")
    return composed.refused
