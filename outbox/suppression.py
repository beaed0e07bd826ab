"""The suppression list: addresses that get no mail, since they bounced, complained, or a person said so.

It lies in the queue (`suppressed`: address -> JSON; `suppressions`: `<id>:<address>`, so by age). claim.lua asks it
when mail is about to leave, so it also holds for what was scheduled, or taken while the queue was away; settle.lua adds
to it in the same call that records the bounce. Every change is an event.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

import orjson
from redis.asyncio import Redis

from outbox.ids import new_id
from outbox.journal import Journal
from outbox.message import Recipient
from outbox.scripts import Scripts
from runtime.clock import from_ms, to_ms
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

KIND = "suppression"  # of its events, which are those of policy objects


class Origin(StrEnum):
    """Why an address is on the list."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Suppression:
    """One address. `source_id` is the message that bounced or was complained of."""

    id: str
    email: str
    origin: Origin
    source_id: str | None
    created_at: datetime

    @classmethod
    def new(cls, email: str, origin: Origin, source_id: str | None, *, now: datetime) -> Self:
        """One that begins now. Its id sorts by time."""
        return cls(new_id(now), email, origin, source_id, now)

    def to_json(self) -> bytes:
        """What lies under its address. lua/_prelude.lua looks for id and origin in these words."""
        fields = {"id": self.id, "origin": self.origin, "source_id": self.source_id}
        return orjson.dumps(fields | {"created_at": to_ms(self.created_at)})

    @classmethod
    def of(cls, email: str, value: bytes | dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        fields = orjson.loads(value) if isinstance(value, bytes) else value
        return cls(fields["id"], email, Origin(fields["origin"]), fields["source_id"], from_ms(fields["created_at"]))


def normal(address: str) -> str:
    """The form in which addresses are compared: lower case as far as ASCII goes, the domain as an A-label.

    A local part may tell cases apart (RFC 5321 section 2.4); nobody has two people in one mailbox name.
    """
    local = address.strip().rpartition("@")[0]
    lowered = local.lower() if local.isascii() else "".join(c.lower() if c.isascii() else c for c in local)
    return f"{lowered}@{Recipient(address.strip(), 'to').domain}"


class SuppressionList:
    """Reads and changes it. With a `journal`, changes survive a queue that loses its memory the next moment."""

    def __init__(self, redis: Redis, settings: Settings, *, journal: Journal | None = None) -> None:
        self._redis = redis
        self._scripts = Scripts(redis, settings)
        self._journal = journal
        self._by_address = f"{self._scripts.prefix}:suppressed"
        self._by_age = f"{self._scripts.prefix}:suppressions"

    async def add(self, address: str, *, now: datetime) -> Suppression:
        """Put an address on the list by hand. One that is there stays as it is, and is the answer."""
        new = Suppression.new(normal(address), Origin.MANUAL, None, now=now)
        value: bytes = await self._scripts.call("suppress", new.email, new.to_json(), to_ms(now))
        kept = Suppression.of(new.email, value)
        if kept.id == new.id:
            await self._note(new.email, orjson.loads(value), now)
        return kept

    async def remove(self, id_or_address: str, *, now: datetime) -> Suppression | None:
        """Take an address off the list; what it was. None: it is not there."""
        found = await self.get(id_or_address)
        if found is None or not await self._scripts.call("unsuppress", found.email, found.id, to_ms(now)):
            return None
        await self._note(found.email, None, now)
        return found

    async def get(self, id_or_address: str) -> Suppression | None:
        """One, by its id or its address."""
        address = normal(id_or_address) if "@" in id_or_address else await self._address_of(id_or_address)
        value: Any = await self._redis.hget(self._by_address, address)
        return None if value is None else Suppression.of(address, value)

    async def page(
        self, *, limit: int, after: str | None = None, before: str | None = None, origin: Origin | None = None
    ) -> list[Suppression]:
        """Up to `limit`, newest first: those older than the id `after`, or the ones next newer than `before`."""
        found: list[Suppression] = []
        edge = before or after
        while len(found) < limit and (members := await self._members(edge, newer=before is not None, limit=limit)):
            edge = members[-1].partition(":")[0]
            found += [each for each in await self._values(members) if origin in (None, each.origin)]
        return found[:limit] if before is None else found[:limit][::-1]

    async def _members(self, edge: str | None, *, newer: bool, limit: int) -> list[str]:
        """`<id>:<address>` beyond the id, the nearest first."""
        raw: Any
        if newer:
            raw = await self._redis.zrangebylex(self._by_age, f"({edge};", "+", start=0, num=limit)
        else:
            top = f"({edge}" if edge else "+"
            raw = await self._redis.zrevrangebylex(self._by_age, top, "-", start=0, num=limit)
        return [member.decode() for member in raw]

    async def _values(self, members: list[str]) -> list[Suppression]:
        addresses = [member.partition(":")[2] for member in members]
        values: Any = await self._redis.hmget(self._by_address, addresses)
        return [Suppression.of(a, value) for a, value in zip(addresses, values, strict=True) if value is not None]

    async def _address_of(self, suppression_id: str) -> str:
        found: Any = await self._redis.zrangebylex(self._by_age, f"[{suppression_id}:", f"({suppression_id};")
        return found[0].decode().partition(":")[2] if found else ""

    async def _note(self, address: str, value: dict[str, Any] | None, now: datetime) -> None:
        if self._journal is None:
            return
        try:
            await self._journal.append({"kind": KIND, "at": to_ms(now), "address": address, "value": value})
        except OSError as failure:  # the queue knows, and the archive soon
            log.error("suppression.not_noted", error=str(failure))
