"""Webhooks: endpoints that are told what becomes of mail. Policy objects, whose signing secrets are sealed.

A secret that was replaced signs on for a day beside the new one, so that receivers can change over.
"""

import base64
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self
from uuid import uuid4

from outbox.policy_store import PolicyStore
from runtime.clock import from_ms, to_ms
from runtime.sealing import Seal

KIND = "webhook"  # of its policy objects
PREFIX = "whsec_"
_SECRET_BYTES = 24
_OVERLAP = timedelta(hours=24)


class Status(StrEnum):
    """Whether it is told anything."""

    ENABLED = "enabled"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A signing secret at rest; None as `until`: it is the one in force."""

    sealed: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """One endpoint, what it wants to hear (None: everything), and its secrets, the newest first."""

    id: str
    endpoint: str
    events: tuple[str, ...] | None
    status: Status
    created_at: datetime
    secrets: tuple[SealedSecret, ...]

    def wants(self, kind: str) -> bool:
        """Whether events of this type go there."""
        return self.events is None or kind in self.events

    def signing_secrets(self, seal: Seal, *, now: datetime) -> list[str]:
        """`whsec_...`, the newest first, of all that sign now. Raises Unsealable."""
        valid = [secret for secret in self.secrets if secret.until is None or secret.until > now]
        return [seal.open(secret.sealed, place=f"{KIND}/{self.id}").decode() for secret in valid]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        kept = [{"sealed": s.sealed, "until": to_ms(s.until) if s.until else None} for s in self.secrets]
        return asdict(self) | {"created_at": to_ms(self.created_at), "secrets": kept}

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(
            id=fields["id"],
            endpoint=fields["endpoint"],
            events=None if fields["events"] is None else tuple(fields["events"]),
            status=Status(fields["status"]),
            created_at=from_ms(fields["created_at"]),
            secrets=tuple(
                SealedSecret(s["sealed"], from_ms(s["until"]) if s["until"] else None) for s in fields["secrets"]
            ),
        )


class Webhooks:
    """Makes and changes them in the queue."""

    def __init__(self, store: PolicyStore, seal: Seal) -> None:
        self._store = store
        self._seal = seal

    def new(self, endpoint: str, events: tuple[str, ...], *, now: datetime) -> Webhook:
        """One with a secret of its own, not yet kept. Raises Unsealable."""
        webhook_id = str(uuid4())
        return Webhook(webhook_id, endpoint, events, Status.ENABLED, now, (self._new_secret(webhook_id),))

    async def keep(self, webhook: Webhook) -> None:
        """Put it in force."""
        await self._store.put(KIND, webhook.id, webhook.to_dict())

    async def get(self, webhook_id: str) -> Webhook | None:
        """One."""
        value = await self._store.get(KIND, webhook_id)
        return Webhook.of(value) if value else None

    async def all(self) -> list[Webhook]:
        """All, the newest first."""
        found = [Webhook.of(value) for value in (await self._store.all(KIND)).values()]
        return sorted(found, key=lambda webhook: (webhook.created_at, webhook.id), reverse=True)

    async def remove(self, webhook_id: str) -> bool:
        """Take it away. False: there is none."""
        return await self._store.remove(KIND, webhook_id)

    async def disable(self, webhook_id: str) -> bool:
        """Tell it nothing more. False: it was disabled, or is gone."""

        def disabled(value: dict[str, Any] | None) -> dict[str, Any] | None:
            return value | {"status": Status.DISABLED} if value and value["status"] == Status.ENABLED else None

        return await self._store.change(KIND, webhook_id, disabled) is not None

    async def rotate(self, webhook: Webhook, *, now: datetime) -> Webhook:
        """Give it a new secret; the present one signs on for a day. Raises Unsealable."""
        older = [replace(s, until=s.until or now + _OVERLAP) for s in webhook.secrets if not s.until or s.until > now]
        rotated = replace(webhook, secrets=(self._new_secret(webhook.id), *older))
        await self.keep(rotated)
        return rotated

    def secret(self, webhook: Webhook, *, now: datetime) -> str:
        """The secret in force. Raises Unsealable."""
        return webhook.signing_secrets(self._seal, now=now)[0]

    def _new_secret(self, webhook_id: str) -> SealedSecret:
        secret = PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
        return SealedSecret(self._seal.seal(secret.encode(), place=f"{KIND}/{webhook_id}"))
