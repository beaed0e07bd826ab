"""Policy objects at one version, and their copy on this machine's disk, with a checksum."""

import hashlib
import hmac
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import orjson

from outbox.journal import sync_folder
from runtime.clock import from_ms, to_ms
from runtime.logs import get

log = get(__name__)

_MOST_VANISHED = 0.5  # a snapshot that lost more than this share of the keys, unrevoked, is damage


class Permission(StrEnum):
    """What a key may do: everything, or only `POST /emails` and `/emails/batch` and SMTP."""

    FULL_ACCESS = "full_access"
    SENDING_ACCESS = "sending_access"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as stored: `digest` is the SHA-256 of the token, which has 190 bits of its own randomness."""

    id: str
    name: str
    digest: str
    permission: Permission
    domain: str | None
    rate_limit: int | None
    created_at: datetime
    revoked: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self) | {"created_at": to_ms(self.created_at)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        return cls(
            **known | {"permission": Permission(fields["permission"]), "created_at": from_ms(fields["created_at"])}
        )


SECRETS = frozenset({"digest", "sealed"})  # fields that no event shows, wherever they stand


def without_secrets(value: Any) -> Any:
    """A policy object as its events, and so the history, show it."""
    if isinstance(value, dict):
        return {name: without_secrets(field) for name, field in value.items() if name not in SECRETS}
    return [without_secrets(item) for item in value] if isinstance(value, list | tuple) else value


def digest_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All policy objects at one version, by "kind/name"."""

    version: int
    objects: dict[str, Any]

    def keys(self) -> dict[str, ApiKey]:
        """API keys by id."""
        return {
            name.partition("/")[2]: ApiKey.from_dict(value)
            for name, value in self.objects.items()
            if name.startswith("api_key/")
        }

    def lost_most_keys(self, earlier: "Snapshot") -> bool:
        """Whether keys vanished from `earlier` in a way no revocation leaves (a revoked key stays, marked)."""
        before = earlier.keys()
        vanished = before.keys() - self.keys().keys()
        return len(vanished) > _MOST_VANISHED * len(before)


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Replace the copy on disk, whole or not at all, readable by the owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = orjson.dumps({"version": snapshot.version, "objects": snapshot.objects})
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def read_snapshot(path: Path) -> Snapshot | None:
    """The copy on disk, or None when there is none or its checksum is wrong."""
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if not hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), checksum):
        log.error("policy.snapshot_damaged", path=str(path))
        return None
    stored = orjson.loads(body)
    return Snapshot(stored["version"], stored["objects"])
