"""One TCP connection that carries SMTP: octets out, replies in, TLS in between. A failed wire never comes back."""

import asyncio
import ssl
from collections import deque
from typing import cast

from worker.errors import ConnectFailed, ConnectionLost, DeliveryError, Garbled, StepTimeout, TlsFailed
from worker.reply import MAX_UNREAD, NoReply, Reply, ReplyReader


class Wire(asyncio.Protocol):
    """Joins an asyncio transport to a ReplyReader. At most one task waits on it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader()
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self._error: DeliveryError | None = None
        self._timer: asyncio.TimerHandle | None = None  # one for all waits: it finds out when it rings
        self._rings_at = self._limit = self._due = 0.0

    @classmethod
    async def connect(cls, host: str, port: int, *, timeout: float) -> "Wire":  # noqa: ASYNC109  (a phase's bound)
        """A plain connection. Raises ConnectFailed."""
        try:
            async with asyncio.timeout(timeout):
                _, wire = await asyncio.get_running_loop().create_connection(cls, host, port)
        except TimeoutError as error:
            raise ConnectFailed(f"no answer from {host}:{port} in {timeout:g} s") from error
        except (OSError, UnicodeError) as error:
            raise ConnectFailed(f"cannot connect to {host}:{port}: {error}") from error
        return wire

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(0)  # else uvloop writes at the end of its turn

    def data_received(self, data: bytes) -> None:
        """Octets came."""
        try:
            self._replies.extend(self._reader.feed(data))
        except NoReply as error:
            self._fail(Garbled(f"the answer is no SMTP reply: {error}"))
            return
        if len(self._replies) > MAX_UNREAD:
            self._fail(Garbled("replies that nobody asked for"))
        elif self._replies:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        self._fail(ConnectionLost(f"connection lost: {exc}" if exc else "connection closed by the next hop"))

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """The transport's buffer has room."""
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # What the client calls

    @property
    def usable(self) -> bool:
        """Whether a new transaction may start: connected, and no unread word from the server (such as a 421)."""
        return self._error is None and not self._replies and not self._reader.midway

    @property
    def failed(self) -> bool:
        """Whether nothing more will come."""
        return self._error is not None

    @property
    def tls(self) -> str:
        """Protocol and cipher; empty for plaintext."""
        session = self._transport.get_extra_info("ssl_object") if self._transport else None
        return f"{session.version()} {session.cipher()[0]}" if session else ""

    @property
    def address(self) -> str:
        """The IP address at the other end."""
        peer = self._transport.get_extra_info("peername") if self._transport else None
        return str(peer[0]) if peer else ""

    def write(self, octets: bytes) -> None:
        """Send. A failed wire swallows it: the next wait raises."""
        if self._transport is not None and self._error is None:
            self._transport.write(octets)

    def has(self, number: int) -> bool:
        """Whether so many replies are there."""
        return len(self._replies) >= number

    def take(self) -> Reply | None:
        """The next whole reply, if it is there."""
        if not self._replies:
            return None
        reply = self._replies.popleft()
        if reply.closing:  # RFC 5321 section 3.8: the server closes the channel, whatever was asked
            self._fail(ConnectionLost(str(reply), reply))
        return reply

    async def reply(self, limit: float) -> Reply:
        """The next whole reply, within `limit` seconds. Raises ConnectionLost, StepTimeout, Garbled."""
        while (reply := self.take()) is None:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            self._watch(limit)
            try:
                await self._waiter
            finally:
                self._waiter = None
        return reply

    async def drain(self, limit: float) -> None:
        """Wait until there is room to write, within `limit` seconds. Raises as `reply` does."""
        if self._error is not None:
            raise self._error
        if not self._paused:
            return
        self._drained = self._loop.create_future()
        self._watch(limit)
        try:
            await self._drained
        finally:
            self._drained = None
        if self._error is not None:
            raise self._error

    async def start_tls(self, context: ssl.SSLContext, *, host: str, limit: float) -> None:
        """Encrypt from here on. Raises TlsFailed.

        Whatever was received before the handshake is thrown away: it came in the clear, so anybody may have written it
        (RFC 3207 section 6; CVE-2011-0411).
        """
        if self._transport is None or self._error is not None:
            raise self._error or TlsFailed("no connection")
        self._forget()
        try:
            self._transport = await self._loop.start_tls(
                self._transport, self, context, server_hostname=host, ssl_handshake_timeout=limit
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            self.abort()
            raise TlsFailed(f"TLS handshake failed: {error or type(error).__name__}") from error
        if self._transport is None:  # the connection was lost within the handshake
            raise TlsFailed("TLS handshake failed")
        self._forget()

    def _forget(self) -> None:
        self._reader = ReplyReader()
        self._replies.clear()

    def abort(self) -> None:
        """Close at once; what is not sent yet never will be."""
        self._fail(ConnectionLost("connection closed by us"))

    def _watch(self, limit: float) -> None:
        """Have the wait that begins fail after `limit` seconds. A timer for each would cost more than a reply does."""
        self._limit, self._due = limit, self._loop.time() + limit
        if self._timer is None or self._rings_at > self._due:
            self._stop_timer()
            self._set_timer()

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None and self._drained is None:
            return
        if self._loop.time() < self._due:  # it was set for an earlier wait
            self._set_timer()
        else:
            self._fail(StepTimeout(f"no answer in {self._limit:g} s"))

    def _set_timer(self) -> None:
        self._timer, self._rings_at = self._loop.call_at(self._due, self._ring), self._due

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: DeliveryError) -> None:
        if self._error is None:
            self._error = error
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()
        self._wake()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
