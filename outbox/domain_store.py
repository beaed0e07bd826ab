"""Keeps sending domains among the policy objects, one per name. Private keys never leave the queue unsealed."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from outbox.dkim_key import make_keys
from outbox.policy_snapshot import without_secrets
from outbox.policy_store import PolicyStore
from outbox.sender_domain import Found, Hosts, SenderDomain
from runtime import clock
from runtime.sealing import Seal
from runtime.settings import Settings

KIND = "domain"


class DomainTaken(Exception):
    """A domain of that name is there already."""


class DomainStore:
    """Reads and changes domains. Readers elsewhere notice within a second (see outbox/policy.py)."""

    def __init__(
        self, store: PolicyStore, settings: Settings, seal: Seal, *, now: Callable[[], datetime] = clock.now
    ) -> None:
        self._store = store
        self._seal = seal
        self._now = now
        self.hosts = Hosts.from_settings(settings)
        self.tracking_url = settings.tracking_url

    async def create(self, name: str, **chosen: Any) -> SenderDomain:
        """A new domain with its keys. `chosen` are fields of SenderDomain. Raises DomainTaken, Unsealable."""
        keys = await asyncio.to_thread(make_keys, name, self._seal, now=self._now())
        domain = SenderDomain(str(uuid4()), name, self._now(), keys=keys, **chosen)

        def create(value: dict[str, Any] | None) -> dict[str, Any]:
            if _is_managed(value):
                raise DomainTaken(name)
            return domain.to_dict(self.hosts) | _own_word(value)

        made = await self._store.change(KIND, name, create, made=True)
        return SenderDomain.from_dict(made or {})

    async def all(self) -> list[SenderDomain]:
        """All domains, the newest first."""
        values = (await self._store.all(KIND)).values()
        domains = [SenderDomain.from_dict(value) for value in values if _is_managed(value)]
        return sorted(domains, key=lambda domain: (domain.created_at, domain.id), reverse=True)

    async def find(self, domain_id: str) -> SenderDomain | None:
        """The domain of an id."""
        return next((domain for domain in await self.all() if domain.id == domain_id), None)

    async def named(self, name: str) -> SenderDomain | None:
        """The domain of a name."""
        value = await self._store.get(KIND, name.lower())
        return SenderDomain.from_dict(value) if value and _is_managed(value) else None

    async def ask(self, domain: SenderDomain) -> SenderDomain | None:
        """Let the DNS be looked at. None, here and below: the domain is gone."""
        return await self.change(domain, lambda now_there: now_there.asked(self.hosts, now=self._now()))

    async def rotate(self, domain: SenderDomain) -> SenderDomain | None:
        """New keys beside the old ones. Raises Unsealable."""
        fresh = await asyncio.to_thread(make_keys, domain.name, self._seal, now=self._now())
        return await self.change(domain, lambda now_there: now_there.rotated(fresh, now=self._now()))

    async def judge(self, domain: SenderDomain, found: Mapping[str, Found]) -> SenderDomain | None:
        """Note what the DNS says."""
        return await self.change(domain, lambda now_there: now_there.judged(found, self.hosts, now=self._now()))

    async def remove(self, domain: SenderDomain) -> bool:
        """Take it away with its keys. False: it was gone."""
        was = without_secrets(domain.to_dict(self.hosts))
        return await self._store.remove(KIND, domain.name, was=was)

    async def change(self, domain: SenderDomain, make: Callable[[SenderDomain], SenderDomain]) -> SenderDomain | None:
        """Set what `make` says of the domain as it is now."""

        def change(value: dict[str, Any] | None) -> dict[str, Any] | None:
            if value is None or value.get("id") != domain.id:
                return None
            return make(SenderDomain.from_dict(value)).to_dict(self.hosts)

        changed = await self._store.change(KIND, domain.name, change)
        return SenderDomain.from_dict(changed) if changed else None


def _is_managed(value: dict[str, Any] | None) -> bool:
    """Whether it has keys and records. What the operator merely allowed or denied has not."""
    return value is not None and "id" in value


def _own_word(value: dict[str, Any] | None) -> dict[str, Any]:
    """The operator's earlier word about the name."""
    return {"allowed": value["allowed"], "verified": value["verified"]} if value and "allowed" in value else {}
