"""Puts mail into a queue by the outbox's own scripts, in batches: quicker than any way in."""

import asyncio
import itertools
from collections.abc import Iterator

from bench.content import text
from outbox.entry import Entry, Submission
from outbox.ids import new_id
from outbox.message import Message, Recipient
from outbox.queue import Outbox
from runtime.clock import now
from runtime.connections import redis_async
from runtime.settings import Settings

_SENDER = "news@sender.test"
_TOGETHER = 100  # mails of one call of accept.lua
_CALLS = 4  # of one round trip
_AT_ONCE = 2  # round trips: we prepare the next while the queue takes one
_REPLY = 30.0  # seconds


def fill(settings: Settings, mails: int, *, domains: tuple[str, ...], size: int) -> None:
    """So many mails of `size` octets, due at once, to the domains in turn."""
    asyncio.run(_fill(settings, mails, domains, size))


def submission(domain: str, size: int, number: int) -> Submission:
    """One mail."""
    at = now()
    recipient = f"reader{number}@{domain}"
    head = f"From: {_SENDER}\r\nTo: {recipient}\r\nSubject: One\r\n\r\n".encode()
    content = head + text(max(0, size - len(head) - 2), seed=number) + b"\r\n"
    message = Message(
        id=new_id(at),
        created_at=at,
        via="smtp",
        key_id="bench",
        reverse_path=_SENDER,
        recipients=(Recipient(recipient, "envelope"),),
        sender=_SENDER,
        to=(recipient,),
        subject="One",
        size=len(content),
    )
    return Submission(message, content)


async def put_one(outbox: Outbox, domain: str, size: int, number: int) -> None:
    """One mail, due at once."""
    await outbox.append([Entry.plain((submission(domain, size, number),)).arguments(now())])


async def _fill(settings: Settings, mails: int, domains: tuple[str, ...], size: int) -> None:
    redis = redis_async(settings, timeout=_REPLY)
    outbox = Outbox(redis, settings)
    groups = _groups(mails, domains, size)
    await asyncio.gather(*(_append(outbox, groups) for _ in range(_AT_ONCE)))
    await redis.aclose()


async def _append(outbox: Outbox, groups: Iterator[Entry]) -> None:
    while calls := list(itertools.islice(groups, _CALLS)):
        at = now()
        await outbox.append([entry.arguments(at) for entry in calls])


def _groups(mails: int, domains: tuple[str, ...], size: int) -> Iterator[Entry]:
    numbers = iter(range(mails))
    while group := list(itertools.islice(numbers, _TOGETHER)):
        yield Entry.plain([submission(domains[number % len(domains)], size, number) for number in group])
