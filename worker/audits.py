"""The audit as a chore: in a thread of its own, so that a long one holds up no other chore, and never two at once."""

import threading
import time
from collections.abc import Callable

from runtime import clock
from runtime.connections import StoreError, redis_sync
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

REST = 20.0  # an audit that took a second rests so many: it reads every journal and the archive from end to end
_REPLY = 30.0  # seconds


class Audits:
    """One per chores process."""

    def __init__(self, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._thread: threading.Thread | None = None
        self._rest_until = float("-inf")

    def begin(self) -> bool:
        """Start one, unless one runs or the last one was long and not long ago. Whether it was started."""
        if self._monotonic() < self._rest_until or (self._thread and self._thread.is_alive()):
            return False
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()
        return True

    def wait(self, seconds: float) -> None:
        """Until the audit under way has ended, but no longer than this."""
        if self._thread:
            self._thread.join(seconds)

    def _run(self) -> None:
        from outbox.audit import Audit  # noqa: PLC0415 - a worker that delivers need not wait for this import

        begun = self._monotonic()
        redis = redis_sync(self._settings, timeout=_REPLY)
        try:
            Audit(redis, self._settings, now=clock.now()).run()
        except StoreError as failure:
            log.info("audit.put_off", error=str(failure)[:100])
        except Exception:
            log.exception("audit.failed")
        finally:
            redis.close()
        ended = self._monotonic()
        self._rest_until = ended + REST * (ended - begun)
