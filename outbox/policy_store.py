"""Changes policy: in the queue, each change an event. Tokens are shown once and never stored."""

import secrets
import string
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import orjson
from redis.asyncio import Redis

from outbox import events
from outbox.errors import Unavailable
from outbox.policy_snapshot import ApiKey, Permission, digest_of, without_secrets
from outbox.scripts import Scripts
from runtime import clock
from runtime.clock import from_ms
from runtime.settings import Settings

Value = dict[str, Any]
_TRIES = 20  # of a change that others undercut
_ALPHABET = string.ascii_letters + string.digits


def new_token() -> str:
    """A token in Resend's form: re_, 8 and 24 letters and digits."""

    def letters(count: int) -> str:
        return "".join(secrets.choice(_ALPHABET) for _ in range(count))

    return f"re_{letters(8)}_{letters(24)}"


class PolicyStore:
    """Writes policy objects. Readers notice within a second (see outbox/policy.py)."""

    def __init__(self, redis: Redis, settings: Settings, *, now: Callable[[], datetime] = clock.now) -> None:
        self._redis = redis
        self._scripts = Scripts(redis, settings)
        self._now = now

    async def create_key(
        self,
        name: str,
        *,
        permission: Permission = Permission.FULL_ACCESS,
        domain: str | None = None,
        rate_limit: int | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its token. `domain` limits the senders, `rate_limit` is requests per second."""
        token = new_token()
        key = ApiKey(str(uuid4()), name, digest_of(token), permission, domain, rate_limit, self._now())
        await self.put("api_key", key.id, key.to_dict())
        return key, token

    async def list_keys(self) -> list[ApiKey]:
        """All keys in force, oldest first."""
        keys = [ApiKey.from_dict(value) for value in (await self.all("api_key")).values()]
        return sorted((key for key in keys if not key.revoked), key=lambda key: key.created_at)

    async def revoke_key(self, key_id: str) -> bool:
        """End a key for good. False: there is no such key in force. The mark stays, so that a loss shows as a loss."""

        def revoked(value: Value | None) -> Value | None:
            return None if value is None or value.get("revoked") else value | {"revoked": True}

        return await self.change("api_key", key_id, revoked) is not None

    async def rename_key(self, key_id: str, name: str) -> bool:
        """Give a key another name. False: there is no such key in force."""

        def renamed(value: Value | None) -> Value | None:
            return None if value is None or value.get("revoked") else value | {"name": name}

        return await self.change("api_key", key_id, renamed) is not None

    async def last_used(self) -> dict[str, datetime]:
        """When each key was last used, to some seconds; keys never used are left out."""
        fields: Any = await self._redis.hgetall(f"{self._scripts.prefix}:keyused")
        return {key_id.decode(): from_ms(ms) for key_id, ms in fields.items()}

    async def set_domain(self, name: str, *, verified: bool) -> None:
        """Say whether mail may be sent from a domain, whatever the DNS says of it."""
        name = name.lower()

        def judged(value: Value | None) -> Value:
            return (value or {"name": name}) | {"allowed": verified, "verified": verified}

        await self.change("domain", name, judged)

    async def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """One object, as the queue has it now."""
        value: Any = await self._redis.hget(f"{self._scripts.prefix}:policy", f"{kind}/{name}")
        return None if value is None else dict(orjson.loads(value))

    async def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """The objects of one kind by name, as the queue has them now."""
        fields: Any = await self._redis.hgetall(f"{self._scripts.prefix}:policy")
        owned = {name.decode().partition("/"): value for name, value in fields.items()}
        return {name: orjson.loads(value) for (its, _, name), value in owned.items() if its == kind}

    async def put(self, kind: str, name: str, value: dict[str, Any], *, shown: dict[str, Any] | None = None) -> None:
        """Set an object. The event, and so the history, has `shown`; without it all but the fields known as secret."""
        event = events.policy_changed(kind, name, shown or without_secrets(value), at=self._now())
        await self._scripts.call("policy", f"{kind}/{name}", orjson.dumps(value), event)

    async def remove(self, kind: str, name: str, **more: Any) -> bool:
        """Take an object away. False: there was none. `more`: for the event."""
        event = events.policy_changed(kind, name, None, at=self._now(), **more)
        return bool(await self._scripts.call("policy", f"{kind}/{name}", "", event))

    async def change(
        self, kind: str, name: str, make: Callable[[Value | None], Value | None], **more: Any
    ) -> Value | None:
        """Set an object to what `make` says of the present one, and give that; None from `make` leaves it alone.

        `make` is called again when somebody else changed the object meanwhile, so that no change undoes another.
        Raises Unavailable when too many change it at once. `more`: for the event.
        """
        for _ in range(_TRIES):
            raw: Any = await self._redis.hget(f"{self._scripts.prefix}:policy", f"{kind}/{name}")
            value = make(None if raw is None else orjson.loads(raw))
            if value is None:
                return None
            event = events.policy_changed(kind, name, without_secrets(value), at=self._now(), **more)
            octets = orjson.dumps(value)
            if octets == raw or await self._scripts.call("policy", f"{kind}/{name}", octets, event, raw or b"") == 1:
                return value
        raise Unavailable("too many changes of one object at once")
