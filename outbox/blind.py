"""Idempotency keys that this process took while the queue could not be asked: the newest hundred thousand."""

from collections import OrderedDict
from dataclasses import dataclass

from outbox.entry import FirstUse

_MOST = 100_000


@dataclass(slots=True)
class BlindUse:
    """A key's first use here. Until it is `durable` a repeat must not be answered with it, only held against it."""

    first_use: FirstUse
    durable: bool = False


class BlindKeys:
    """One per process."""

    def __init__(self) -> None:
        self._uses: OrderedDict[str, BlindUse] = OrderedDict()

    def answer_to(self, key_hash: str, fingerprint: str) -> FirstUse | None:
        """The first use that answers a request: one that is durable, or one that the request is in conflict with."""
        use = self._uses.get(key_hash)
        if use and (use.durable or use.first_use.fingerprint != fingerprint):
            return use.first_use
        return None

    def begin(self, key_hash: str, first_use: FirstUse) -> BlindUse:
        """The key is about to be taken; concurrent requests with the same content share the use."""
        use = self._uses.setdefault(key_hash, BlindUse(first_use))
        if len(self._uses) > _MOST:
            self._uses.popitem(last=False)
        return use

    def forget(self, key_hash: str, use: BlindUse) -> None:
        """It came to nothing, unless a concurrent request with the same content did better."""
        if self._uses.get(key_hash) is use and not use.durable:
            del self._uses[key_hash]
