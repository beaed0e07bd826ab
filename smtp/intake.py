"""From complete content to a durable message: the one hop between an SMTP session and the outbox.

Everything a session shares with the others of its process is here: who may send, how often, from which domain, and
the acceptor. Infrastructure faults leave as 4yz, never as 5yz.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial

from outbox.accept import Accepted, Acceptor, Idempotency, Submission
from outbox.blobs import LARGE
from outbox.domains import is_reserved
from outbox.errors import Full, IdempotencyConflict, KeyUnknown, Overloaded, Unavailable
from outbox.policy import ApiKey, Policy
from outbox.ratelimit import RateLimiter
from runtime import clock
from runtime.logs import fact, get
from runtime.settings import Settings
from smtp import content
from smtp.content import Envelope
from smtp.data import canonical
from smtp.metrics import MESSAGES
from smtp.paths import domain_of
from smtp.replies import BUSY, FAULT, NO_ROOM, Refused, Reply

log = get(__name__)


class Intake:
    """One per process, shared by its sessions."""

    def __init__(
        self,
        settings: Settings,
        *,
        acceptor: Acceptor,
        policy: Policy,
        ratelimiter: RateLimiter,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._settings = settings
        self._acceptor = acceptor
        self._policy = policy
        self._ratelimiter = ratelimiter
        self._now = now

    def authenticate(self, token: str) -> ApiKey:
        """The key of `token`; raises Refused: 535 when it is none, 454 when we cannot tell."""
        try:
            return self._policy.authenticate(token)
        except KeyUnknown:
            raise Refused(535, "5.7.8", "API key not found") from None
        except Unavailable:
            raise Refused(454, "4.7.0", "Cannot check the API key now, try again later") from None

    def still_valid(self, token: str, key: ApiKey) -> ApiKey:
        """The key as it is now, or as it was when nobody can tell; raises Refused when it was revoked."""
        try:
            return self._policy.authenticate(token)
        except KeyUnknown:
            raise Refused(530, "5.7.0", "Authentication required: the API key was revoked") from None
        except Unavailable:
            return key

    def admit(self, key: ApiKey) -> None:
        """Count one message against the key's rate, the same as by HTTP; raises Refused.

        Where nothing can be taken it is said here, before the content is sent for nothing.
        """
        try:
            self._acceptor.demand()
        except Unavailable as refusal:
            raise _refused(refusal) from None
        if not self._ratelimiter.take(key.id, key.rate_limit).allowed:
            raise Refused(450, "4.7.1", "Too many messages in one second, try again later")

    async def take(self, envelope: Envelope, wire: bytes, key: ApiKey, *, peer: str) -> str:
        """Check, make durable, and answer the message's id; raises Refused. Leaves one log line either way."""
        try:
            accepted = await self._take(envelope, wire, key)
        except Refused as refusal:
            note_refusal(refusal.reply, peer=peer, key_id=key.id)
            raise
        except Exception as fault:  # whatever it is, it is ours, and must not pass for a lost connection either
            log.error("submission.failed", peer=peer, key_id=key.id, exc_info=fault)
            note_refusal(FAULT, peer=peer, key_id=key.id)
            raise Refused.of(FAULT) from fault
        MESSAGES.by["250"] += 1
        (message_id,) = accepted.ids
        fact(
            "submission.accepted",
            id=message_id,
            key_id=key.id,
            peer=peer,
            size=len(wire),
            recipients=len(envelope.recipients),
            replayed=accepted.replayed,
        )
        return message_id

    async def _take(self, envelope: Envelope, wire: bytes, key: ApiKey) -> Accepted:
        door = self._acceptor.door
        try:
            async with door:
                if len(wire) > LARGE:
                    compose = partial(self._compose, envelope, wire, key)
                    submission, idempotency = await door.in_thread(compose, len(wire))
                else:
                    submission, idempotency = self._compose(envelope, wire, key)
                return await self._acceptor.accept([submission], idempotency)
        except (Full, Overloaded) as refusal:
            raise _refused(refusal) from None
        except IdempotencyConflict:
            raise Refused(550, "5.7.0", "Resend-Idempotency-Key was used for another message") from None

    def _compose(self, envelope: Envelope, wire: bytes, key: ApiKey) -> tuple[Submission, Idempotency | None]:
        """Everything that is said against a message is said here, as Refused. Needs no store."""
        most = self._settings.max_message_bytes
        draft = content.read(canonical(wire, bare=self._settings.smtp_bare_newline, most=most))
        self._check_senders(draft.from_domains, key)
        self._check_recipients(envelope.recipients)
        idempotency, now = None, self._now()
        if draft.idempotency_key:
            idempotency = Idempotency("SMTP", draft.idempotency_key, content.fingerprint(envelope, draft))
        (message_id,) = self._acceptor.mint(1, idempotency, now=now)
        message, octets = content.compose(
            draft,
            envelope,
            message_id=message_id,
            key_id=key.id,
            now=now,
            hostname=self._settings.smtp_hostname,
        )
        return Submission(message, octets), idempotency

    def _check_senders(self, domains: Iterable[str], key: ApiKey) -> None:
        for domain in domains:
            if key.domain is not None and domain != key.domain.lower():
                raise Refused(550, "5.7.1", f"This API key may not send from {domain}")
            if not self._policy.may_send_from(domain):
                raise Refused(550, "5.7.1", f"The {domain} domain is not verified")

    def _check_recipients(self, recipients: Iterable[str]) -> None:
        if not self._settings.refuse_reserved_recipients:
            return
        if any(is_reserved(domain_of(address)) for address in recipients):
            raise Refused(550, "5.1.2", "A recipient is at a reserved domain such as example.com")


def _refused(refusal: Unavailable) -> Refused:
    """What SMTP says to it."""
    match refusal:
        case Full():
            return Refused.of(NO_ROOM)
        case Overloaded():
            return Refused.of(BUSY)
    return Refused.of(FAULT)


def note_refusal(reply: Reply, *, peer: str, key_id: str) -> None:
    """The log line and the count of a message that was not taken at its final dot."""
    MESSAGES.by[str(reply.code)] += 1
    log.info("submission.refused", peer=peer, key_id=key_id, reply=str(reply))
