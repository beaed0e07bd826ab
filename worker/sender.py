"""One attempt at one delivery: simulator or next hop, connection, transaction, verdict."""

from collections.abc import Callable, Sequence
from datetime import datetime

from outbox.blobs import OpenBlob
from outbox.errors import ObjectsUnavailable
from outbox.message import Attempt, Claim
from worker import simulator, verdict
from worker.client import BeforeDot, Client
from worker.dialer import Dialer
from worker.envelope import Envelope
from worker.errors import CannotSign, ConnectionLost, ContentAway, DeliveryError, LeaseLost, TlsFailed
from worker.session import Steps
from worker.signer import Signer, Signing
from worker.transaction import Transaction


class Sender:
    """The sending side of a channel: at most one connection, kept from one delivery of the lane to the next."""

    def __init__(self, lane: str, dialer: Dialer, signer: Signer, *, now: Callable[[], datetime]) -> None:
        self._lane = lane
        self._dialer = dialer
        self._signer = signer
        self._signing: dict[str, Signing] = {}
        self._now = now
        self._client: Client | None = None
        self._following: tuple[Claim, Envelope] | None = None  # announced perhaps, so it must stay this very envelope
        self.down: DeliveryError | None = None  # why there is no connection to the lane's next hop

    def prepare(self, claims: Sequence[Claim]) -> None:
        """Begin to sign what will be tried next; what was prepared before is forgotten."""
        for unused in self._signing.values():
            unused.cancel()
        self._signing = {} if self._lane == simulator.LANE else self._signer.begin(claims)

    async def attempt(
        self, claim: Claim, *, before_dot: BeforeDot, following: Claim | None = None, blob: OpenBlob | None = None
    ) -> Attempt:
        """Try the delivery. Raises LeaseLost, and then nothing was delivered; every other end is an outcome.

        `following` is what will be tried next, if all goes well; `blob` the content of a large message.
        """
        started_at = self._now()
        if self._lane == simulator.LANE:
            return simulator.simulate(claim, started_at=started_at)
        try:
            signed = await (self._signer.begin_large(claim, blob) if blob else self._signing[claim.delivery_id])
        except CannotSign as error:
            return self.unreachable(claim, error, started_at=started_at)
        except ObjectsUnavailable as error:
            return self.unreachable(claim, ContentAway(str(error)), started_at=started_at)
        announced, self._following = self._following, self._next(following)
        envelope = announced[1] if announced and announced[0] is claim else Envelope.of(claim, signed, blob)
        client, fresh = self._client, False
        steps: Steps = []
        while True:
            if client is None or fresh or not client.ready(envelope):
                try:
                    client, steps = await self._connect(fresh=fresh)
                except DeliveryError as error:
                    self.down = error
                    return self.unreachable(claim, error, started_at=started_at)
            self.down = None
            if signed.tls_enforced and not client.tls and self._dialer.route.name != "mailbox":
                return self.unreachable(claim, _tls_missing(), started_at=started_at)
            used_before = client.sent > 0
            then = self._following[1] if self._following else None
            transaction = await client.send(envelope, before_dot=before_dot, following=then)
            if used_before and _died_idle(transaction):
                fresh = True  # an idle connection may be closed at any time: that says nothing about the message
                continue
            if isinstance(transaction.error, LeaseLost):
                raise transaction.error
            return Attempt(
                started_at=started_at,
                route=self._dialer.route.name,
                outcomes=verdict.judge(transaction, claim.recipients),
                peer=client.peer,
                tls=client.tls,
                steps=(*steps, *transaction.steps),
                in_doubt=transaction.in_doubt,
                suppress=verdict.to_suppress(transaction, claim.recipients),
            )

    @property
    def announced(self) -> Claim | None:
        """What the next hop was told of behind the last final dot."""
        following, client = self._following, self._client
        if following is None or client is None or client.announced is not following[1]:
            return None
        return following[0]

    def unreachable(self, claim: Claim, error: DeliveryError, *, started_at: datetime | None = None) -> Attempt:
        """The attempt of a delivery whose next hop cannot be reached, without trying again."""
        outcomes = verdict.all_by_error(claim.recipients, error)
        return Attempt(started_at or self._now(), self._dialer.route.name, outcomes)

    def _next(self, claim: Claim | None) -> tuple[Claim, Envelope] | None:
        """What may be announced: it is signed, and does not depend on what the connection turns out to be."""
        signing = self._signing.get(claim.delivery_id) if claim else None
        if claim is None or signing is None or not signing.done() or signing.cancelled() or signing.exception():
            return None
        signed = signing.result()
        return None if signed.tls_enforced else (claim, Envelope.of(claim, signed))

    async def _connect(self, *, fresh: bool) -> tuple[Client, Steps]:
        """Another connection in place of the one there was."""
        self.abort()
        self._client = None
        self._client, steps = await self._dialer.connect(self._lane, fresh=fresh)
        return self._client, steps

    async def close(self) -> None:
        """Leave the connection to whoever needs it next."""
        client, self._client = self._client, None
        if client is not None and (surplus := self._dialer.pool.give(client)):
            await surplus.quit()

    def abort(self) -> None:
        """Cut the connection."""
        if self._client is not None:
            self._client.abort()


def _tls_missing() -> TlsFailed:
    return TlsFailed("the sender's domain asks for TLS, and the next hop offers none")


def _died_idle(transaction: Transaction) -> bool:
    """Whether the server was gone, or said 421, before it took anything of this transaction."""
    if transaction.mail is None:
        return isinstance(transaction.error, ConnectionLost)
    return transaction.mail.closing
