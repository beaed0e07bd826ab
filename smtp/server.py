"""The SMTP server of one process: both ports, every session, and an orderly end."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial

from outbox.accept import Acceptor
from outbox.door import Octets
from outbox.policy import Policy
from outbox.ratelimit import RateLimiter
from runtime import clock
from runtime.logs import get
from runtime.settings import Settings
from runtime.tasks import end
from smtp.connection import HANDSHAKE
from smtp.intake import Intake
from smtp.limits import MEMORY_MESSAGES, Connections
from smtp.listener import Listener
from smtp.metrics import CONNECTIONS, CUT_OFF
from smtp.replies import Goodbye
from smtp.session import SubmissionSession
from smtp.tls import server_context
from smtp.trust import TrustedNetworks

log = get(__name__)

_GRACE = 5.0  # seconds for messages under way when we stop; the supervisor's patience is longer


class SubmissionServer:
    """What others know as ports 587 and 465: STARTTLS, and TLS from the first octet (RFC 8314).

    The parts handed in are started and stopped by whoever made them.
    """

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
        self._intake = Intake(settings, acceptor=acceptor, policy=policy, ratelimiter=ratelimiter, now=now)
        self._now = now
        self._connections = Connections(
            most=settings.smtp_max_connections, most_per_host=settings.smtp_max_connections_per_host
        )
        self._trusted = TrustedNetworks(settings.smtp_trusted_networks)
        self._memory = Octets(MEMORY_MESSAGES * settings.max_message_bytes)
        self._welcomes: dict[asyncio.Task[None], SubmissionSession | None] = {}  # None: TLS handshake not over
        self._listeners: list[Listener] = []
        self._is_stopping = False

    @property
    def smtp_port(self) -> int:
        """The bound port with STARTTLS."""
        return self._listeners[0].port

    @property
    def smtps_port(self) -> int:
        """The bound port with implicit TLS."""
        return self._listeners[1].port

    async def start(self) -> None:
        """Open both ports. Raises OSError when one is taken or the certificate cannot be used."""
        tls = server_context(self._settings, now=self._now())
        try:
            for port, implicit in ((self._settings.smtp_port, False), (self._settings.smtps_port, True)):
                welcome = partial(self._welcome, tls, implicit)
                self._listeners.append(Listener(self._settings.host, port, welcome=welcome))
        except OSError:
            await self._close_ports()
            raise
        for listener in self._listeners:
            listener.start()
        self._trusted.warn()
        log.info("submission.listening", host=self._settings.host, smtp=self.smtp_port, smtps=self.smtps_port)

    async def stop(self) -> None:
        """Stop listening, say 421 where nothing is under way, let the rest end within the grace, then cut off."""
        self._is_stopping = True
        await self._close_ports()
        welcomes = dict(self._welcomes)
        for task, session in welcomes.items():
            if session is None:
                task.cancel()
            else:
                session.stop()
        if welcomes:
            await asyncio.wait(welcomes, timeout=_GRACE)
            await end(*welcomes)
        log.info("submission.stopped", sessions=len(welcomes))

    async def _close_ports(self) -> None:
        for listener in self._listeners:
            await listener.close()

    async def _welcome(self, tls: ssl.SSLContext, implicit: bool, connection: socket.socket, host: str) -> None:  # noqa: FBT001
        """One connection, from accept(2) to its end."""
        if self._is_stopping:
            return connection.close()
        try:
            self._connections.enter(host)
        except Goodbye as refusal:
            return _turn_away(connection, refusal, silently=implicit)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a coroutine of a running loop)
        self._welcomes[task] = None
        CONNECTIONS.inc()
        try:
            self._welcomes[task] = session = await self._session(tls, connection, host, implicit=implicit)
            await session.conversation()
        except OSError as failure:  # the TLS handshake came to nothing
            log.debug("submission.handshake_failed", peer=host, reason=type(failure).__name__)
        finally:
            CONNECTIONS.dec()
            self._connections.leave(host)
            del self._welcomes[task]

    async def _session(
        self, tls: ssl.SSLContext, connection: socket.socket, host: str, *, implicit: bool
    ) -> SubmissionSession:
        session = SubmissionSession(
            self._settings, self._intake, tls=tls, memory=self._memory, network_key=self._trusted.key_of(host)
        )
        timeout = min(HANDSHAKE, self._settings.smtp_timeout.total_seconds())
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: session,  # the returned protocol is not always ours: uvloop gives that of the TLS layer
            connection,
            ssl=tls if implicit else None,
            ssl_handshake_timeout=timeout if implicit else None,
        )
        return session


def _turn_away(connection: socket.socket, refusal: Goodbye, *, silently: bool) -> None:
    """Say why if it costs nothing: a TLS handshake would cost us more than the client."""
    CUT_OFF.labels(f"{refusal.reply.code} {refusal.reply.status}").inc()
    with connection:
        if not silently:
            with suppress(OSError):  # it is gone already
                connection.send(f"{refusal.reply}\r\n".encode())
