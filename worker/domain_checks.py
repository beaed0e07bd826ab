"""The look at sending domains as a chore: in a thread of its own, so that a slow DNS holds up no other chore.

A domain that waits is looked at often while it is young in its waiting, a verified one once an hour.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from outbox.domain_store import DomainStore
from outbox.policy_store import PolicyStore
from outbox.sender_domain import SenderDomain, Status
from runtime import clock
from runtime.connections import StoreError, redis_async
from runtime.logs import get
from runtime.sealing import Seal
from runtime.settings import Settings

log = get(__name__)

AT_ONCE = 8  # domains that are looked at at the same time
SOONEST, LATEST = 2.0, 600.0  # seconds between two looks at a domain that waits
SETTLED = 3600.0  # the same for one with nothing to wait for
_REPLY = 5.0


class DomainChecks:
    """One per chores process. What it remembers is only when it looked last: a new process looks at all again."""

    def __init__(self, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._thread: threading.Thread | None = None
        self._looked: dict[str, tuple[datetime | None, float]] = {}  # by id: the question, and when we looked for it

    def begin(self) -> bool:
        """Start a round unless one runs. Whether it was started."""
        if self._thread and self._thread.is_alive():
            return False
        self._thread = threading.Thread(target=self._run, name="domains", daemon=True)
        self._thread.start()
        return True

    def _run(self) -> None:
        try:
            asyncio.run(self.round())
        except StoreError as failure:
            log.info("domains.put_off", error=str(failure)[:100])
        except Exception:
            log.exception("domains.failed")

    async def round(self) -> int:
        """Look at every domain that is due; how many there were. Raises StoreError."""
        async with redis_async(self._settings, timeout=_REPLY) as redis:
            store = DomainStore(PolicyStore(redis, self._settings), self._settings, Seal(None))
            domains = await store.all()
            due = [domain for domain in domains if self._is_due(domain)]
            places = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(self._check(domain, store, places) for domain in due))
        self._looked = {d.id: self._looked[d.id] for d in domains if d.id in self._looked}
        return len(due)

    def _is_due(self, domain: SenderDomain) -> bool:
        states = {check.status for check in (domain.checks or {}).values()}
        if not states & {Status.PENDING, Status.TEMPORARY_FAILURE, Status.VERIFIED}:
            return False  # nobody has asked, or all of it has failed
        question, looked_at = self._looked.get(domain.id, (None, float("-inf")))
        if question != domain.asked_at:
            return True
        waits = states & {Status.PENDING, Status.TEMPORARY_FAILURE}
        pause = pause_after(clock.now() - (domain.asked_at or domain.created_at)) if waits else SETTLED
        return self._monotonic() - looked_at >= pause

    async def _check(self, domain: SenderDomain, store: DomainStore, places: asyncio.Semaphore) -> None:
        from worker.domain_dns import look  # noqa: PLC0415 - in this thread: the start of a worker waits for no DNS code
        from worker.resolver import resolver  # noqa: PLC0415

        async with places:
            self._looked[domain.id] = (domain.asked_at, self._monotonic())
            found = await look(domain, store.hosts, resolver(self._settings))
            judged = await store.judge(domain, found)
        before, after = domain.status(store.hosts), judged.status(store.hosts) if judged else None
        if after is not None and after is not before:
            log.info("domain.judged", domain=domain.name, before=before, status=after)


def pause_after(waited: timedelta) -> float:
    """Seconds until the next look at a domain that has waited for so long: a tenth of it, within bounds."""
    return min(max(waited.total_seconds() / 10, SOONEST), LATEST)
