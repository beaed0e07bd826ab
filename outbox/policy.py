"""Policy as each process sees it: API keys and domains in memory, refreshed from the queue, with a copy on disk.

With the queue away the last good snapshot serves on. Then an unknown key means "cannot tell", never "no".
"""

import asyncio
import hashlib
import hmac
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import orjson
from redis.asyncio import Redis

from outbox.errors import KeyUnknown, Unavailable
from outbox.journal import sync_folder
from runtime.clock import from_ms, to_ms
from runtime.connections import StoreError
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

REFRESH = timedelta(milliseconds=250)
_FRESH_SECONDS = 3.0  # an older snapshot may not say that a key does not exist
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


class Policy:
    """The snapshot in force. Lookups are in memory and synchronous."""

    def __init__(self, redis: Redis, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._settings = settings
        self._prefix = f"{{{settings.queue_prefix}}}"
        self._file = settings.data_dir / "policy" / "snapshot.json"
        self._monotonic = monotonic
        self._refreshed_at = float("-inf")
        self._snapshot = Snapshot(0, {})
        self._by_digest: dict[str, ApiKey] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the last good snapshot, then the queue's, then keep up with it."""
        stored = read_snapshot(self._file)
        if stored:
            self._use(stored)
        await self.refresh()
        self._task = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """End keeping up."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    def authenticate(self, token: str) -> ApiKey:
        """The key of a token. Raises KeyUnknown, or Unavailable when the snapshot is too old to say so."""
        digest = digest_of(token)
        key = self._by_digest.get(digest)
        if key and hmac.compare_digest(key.digest, digest):
            return key
        if self._monotonic() - self._refreshed_at > _FRESH_SECONDS:
            raise Unavailable("API keys cannot be checked now")
        raise KeyUnknown("API key is invalid")

    def may_send_from(self, domain: str) -> bool:
        """Whether mail from this domain is taken: it is verified, or nobody asks."""
        if not self._settings.verified_domains_only:
            return True
        known = self._snapshot.objects.get(f"domain/{domain.lower()}")
        return bool(known and known["verified"])

    async def refresh(self) -> None:
        """Fetch the queue's snapshot if it changed. Failures and damaged snapshots leave the one in force."""
        try:
            current: Any = await self._redis.get(f"{self._prefix}:policyversion")
            if int(current or 0) == self._snapshot.version:
                self._refreshed_at = self._monotonic()
                return
            pipe = self._redis.pipeline(transaction=True)
            pipe.get(f"{self._prefix}:policyversion")
            pipe.hgetall(f"{self._prefix}:policy")
            version, fields = await pipe.execute()
        except StoreError:
            return
        self._consider(Snapshot(int(version or 0), {k.decode(): orjson.loads(v) for k, v in fields.items()}))

    def _consider(self, fetched: Snapshot) -> None:
        if fetched.lost_most_keys(self._snapshot):
            log.error("policy.snapshot_refused", version=fetched.version, keys=len(fetched.keys()))
            return
        self._use(fetched)
        self._refreshed_at = self._monotonic()
        try:
            write_snapshot(self._file, fetched)
        except OSError as failure:
            log.error("policy.snapshot_not_written", error=str(failure))

    def _use(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._by_digest = {key.digest: key for key in snapshot.keys().values() if not key.revoked}

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(REFRESH.total_seconds())
            await self.refresh()


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
