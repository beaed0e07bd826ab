"""Signs claimed mail for its sender's domain: in threads, beside the event loop, while the mails before it are sent.

Which keys, the policy snapshot says. A mail whose keys cannot be read waits: unsigned, it would land in spam folders.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any

from outbox.blobs import OpenBlob
from outbox.dkim_key import DkimKey, place_of
from outbox.message import Claim, Message
from outbox.policy import Policy
from outbox.sender_domain import Hosts, SenderDomain
from runtime.logs import get
from runtime.sealing import Seal, Unsealable
from worker.errors import CannotSign
from worker.signed import PLAIN, Signed

if TYPE_CHECKING:  # at run time with the first key: a restart waits for its imports, and many have no key
    from worker.dkim import SigningKey

log = get(__name__)

MOST_KEYS = 1000  # opened keys that are kept in memory


Signing = asyncio.Future[Signed]


class Signer:
    """One per worker."""

    def __init__(self, policy: Policy, seal: Seal, *, hosts: Hosts, now: Callable[[], datetime]) -> None:
        self._policy = policy
        self._seal = seal
        self._now = now
        self._hosts = hosts
        self._threads = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1), thread_name_prefix="dkim")
        self._opened: dict[str, SigningKey] = {}  # by sealed text
        self._read: dict[str, tuple[Mapping[str, Any], SenderDomain]] = {}  # by name, with what it was read from
        self._plain = _done(asyncio.get_running_loop(), PLAIN)  # one for all mail of domains without keys

    def begin(self, claims: Sequence[Claim]) -> dict[str, Signing]:
        """Start on a batch; the results by delivery id. A result raises CannotSign; cancel those not wanted."""
        begun, plain = {}, None  # the last domain without keys: most mail of a batch has the same one
        for claim in claims:
            if claim.message.blob:
                continue
            domain = domain_of(claim.message)
            signing = begun[claim.delivery_id] = self._plain if domain == plain else self._begin(claim, None)
            if signing is self._plain:
                plain = domain
        return begun

    def begin_large(self, claim: Claim, blob: OpenBlob) -> Signing:
        """The same of a large message; its result may raise ObjectsUnavailable too."""
        return self._begin(claim, blob)

    def stop(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, claim: Claim, blob: OpenBlob | None) -> Signing:
        try:
            domain = self._domain(domain_of(claim.message))
            if domain is None:
                return self._plain
            keys = [self._key(domain.name, key) for key in domain.signing_keys()]
        except CannotSign as error:
            log.error("dkim.cannot_sign", id=claim.message.id, error=str(error))
            return _failed(asyncio.get_running_loop(), error)
        content = claim.content if blob is None else blob
        return asyncio.get_running_loop().run_in_executor(self._threads, self._sign, content, domain, keys)

    def _sign(self, content: bytes | OpenBlob, domain: SenderDomain, keys: list["SigningKey"]) -> Signed:
        from worker.dkim import large_signatures, signatures  # noqa: PLC0415

        made = b""
        if keys:
            now = self._now()
            if isinstance(content, OpenBlob):
                made = large_signatures(content.pieces(), keys, now=now)
            else:
                made = signatures(content, keys, now=now)
        return Signed(
            made,
            tls_enforced=domain.tls == "enforced",
            return_path_domain=domain.bounce_domain(self._hosts),
        )

    def _domain(self, name: str) -> SenderDomain | None:
        """The sender's domain as the policy has it; None where it has no keys."""
        if not self._policy.is_known:
            raise CannotSign("it is not known whether the sender's domain has keys")
        value = self._policy.get("domain", name)
        if value is None or not value.get("keys"):
            return None
        read = self._read.get(name)
        if read is None or read[0] is not value:  # a snapshot's objects are never changed
            read = self._read[name] = (value, SenderDomain.from_dict(value))
        return read[1]

    def _key(self, domain: str, key: DkimKey) -> "SigningKey":
        opened = self._opened.get(key.sealed)
        if opened is None:
            from worker.dkim import SigningKey  # noqa: PLC0415

            try:
                secret = self._seal.open(key.sealed, place=place_of(domain, key.selector))
                opened = SigningKey.load(domain, key.selector, secret)
            except (Unsealable, ValueError) as error:
                raise CannotSign(f"the DKIM key {key.selector}._domainkey.{domain} cannot be read: {error}") from error
            if len(self._opened) >= MOST_KEYS:
                self._opened.pop(next(iter(self._opened)))
            self._opened[key.sealed] = opened
        return opened


def domain_of(message: Message) -> str:
    """The domain that signs: that of From, to which DMARC wants the signature aligned (RFC 7489 section 3.1.1)."""
    return message.from_domain or message.reverse_path.rpartition("@")[2].lower()


def _done(loop: asyncio.AbstractEventLoop, result: Signed) -> Signing:
    future: Signing = loop.create_future()
    future.set_result(result)
    return future


def _failed(loop: asyncio.AbstractEventLoop, error: CannotSign) -> Signing:
    future: Signing = loop.create_future()
    future.set_exception(error)
    future.exception()  # seen, even if the mail is never tried
    return future
