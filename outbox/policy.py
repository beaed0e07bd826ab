"""Policy as each process sees it: API keys and domains in memory, refreshed from the queue, with a copy on disk.

With the queue away the last good snapshot serves on. Then an unknown key means "cannot tell", never "no".
"""

import asyncio
import contextlib
import hmac
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import orjson
from redis.asyncio import Redis

from outbox.errors import KeyUnknown, Unavailable
from outbox.policy_snapshot import ApiKey, Permission, Snapshot, digest_of, read_snapshot, write_snapshot
from runtime import clock
from runtime.clock import to_ms
from runtime.connections import StoreError
from runtime.logs import get
from runtime.settings import Settings
from runtime.tasks import end

__all__ = ["ApiKey", "Permission", "Policy"]

log = get(__name__)

REFRESH = timedelta(milliseconds=250)
TELL_USE = 5.0  # seconds between two words to the queue about which keys were used
_FRESH_SECONDS = 3.0  # an older snapshot may not say that a key does not exist


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
        self.tracks = False  # whether any domain wants its mail tracked
        self._task: asyncio.Task[None] | None = None
        self._used: set[str] = set()  # keys since the last word about it
        self._told_at = monotonic()

    @property
    def is_known(self) -> bool:
        """Whether there is a snapshot at all, from the queue or from the disk."""
        return self._refreshed_at != float("-inf") or self._snapshot.version > 0

    @property
    def is_fresh(self) -> bool:
        """Whether the snapshot is young enough to say that something does not exist."""
        return self._monotonic() - self._refreshed_at <= _FRESH_SECONDS

    async def start(self) -> None:
        """Load the last good snapshot, then the queue's, then keep up with it."""
        stored = read_snapshot(self._file)
        if stored:
            self._use(stored)
        await self.refresh()
        self._task = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """End keeping up."""
        await end(self._task)

    def authenticate(self, token: str) -> ApiKey:
        """The key of a token. Raises KeyUnknown, or Unavailable when the snapshot is too old to say so."""
        digest = digest_of(token)
        key = self._by_digest.get(digest)
        if key and hmac.compare_digest(key.digest, digest):
            self._used.add(key.id)
            return key
        if not self.is_fresh:
            raise Unavailable("API keys cannot be checked now")
        raise KeyUnknown("API key is invalid")

    def may_send_from(self, domain: str) -> bool:
        """Whether mail from this domain is taken: it is verified, or nobody asks."""
        if not self._settings.verified_domains_only:
            return True
        known = self.get("domain", domain.lower())
        return bool(known and known["verified"])

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """One policy object of the snapshot in force."""
        found: dict[str, Any] | None = self._snapshot.objects.get(f"{kind}/{name}")
        return found

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """The objects of one kind by name."""
        begin = f"{kind}/"
        objects = self._snapshot.objects.items()
        return {name.removeprefix(begin): value for name, value in objects if name.startswith(begin)}

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
        domains = self.all("domain").values()
        self.tracks = any(each.get("open_tracking") or each.get("click_tracking") for each in domains)

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(REFRESH.total_seconds())
            await self.refresh()
            if self._used and self._monotonic() - self._told_at > TELL_USE:
                await self.tell_use()

    async def tell_use(self) -> None:
        """Let the queue know which keys were used. For display: what a dead queue or process forgets of it is lost."""
        used, self._used = self._used, set()
        self._told_at = self._monotonic()
        with contextlib.suppress(*StoreError):
            moment = to_ms(clock.now())
            await cast("Any", self._redis.hset(f"{self._prefix}:keyused", mapping=dict.fromkeys(used, moment)))
