"""One SMTP connection: reads command lines, answers, keeps time, upgrades to TLS. Knows nothing of mail.

It stands on aiosmtpd's protocol (transport, stream, envelope), and replaces its conversation, whose ways of failing
are listed in docs/decisions/0007-smtp-session.md. Replies to pipelined commands leave together (RFC 2920), and no
line of a client is ever logged or echoed: it might be a password that lost its way.

A lost connection does not cancel the conversation. It ends by itself at the next read or write, so an append that is
under way when the client goes is finished and recorded, not torn in half.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any, AnyStr, ClassVar

from aiosmtpd.smtp import SMTP

from runtime.logs import get
from runtime.settings import Settings
from smtp.limits import MAX_AUTH_LINE, MAX_COMMAND_LINE, Errors
from smtp.metrics import CUT_OFF
from smtp.replies import FAULT, IDLE, LINE_TOO_LONG, SHUTTING_DOWN, Goodbye, Refused, Reply

log = get(__name__)

_LINGER = 5.0  # seconds in which a last reply must have been read, before the socket is dropped
HANDSHAKE = 30.0  # longest TLS handshake, seconds

Verb = Callable[[Any, str], Awaitable[None]]


class Phase(Enum):
    """What the connection is doing, which decides whether it may be told to go."""

    UPGRADING = auto()  # TLS handshake: nothing can be said
    TALKING = auto()  # waits for a command, or obeys one
    RECEIVING = auto()  # the client sends content
    APPENDING = auto()  # we make a message durable: the client waits for us


class Connection(SMTP):
    """Its verbs are in `verbs`, by name; what aiosmtpd's own class would answer to is not reachable."""

    line_length_limit = 32_768  # the stream's: a buffer holds at most twice that, and DATA is read in such pieces
    verbs: ClassVar[dict[str, Verb]] = {}

    def __init__(self, settings: Settings, *, tls: ssl.SSLContext) -> None:
        super().__init__(
            None,
            hostname=settings.smtp_hostname,
            ident="ESMTP Nightmail",
            enable_SMTPUTF8=True,
            timeout=settings.smtp_timeout.total_seconds(),
            loop=asyncio.get_running_loop(),
        )
        self.errors = Errors()
        self.phase = Phase.TALKING
        self.is_encrypted = False
        self._tls = tls
        self._replies: list[bytes] = []
        self._heard_at = self.loop.time()
        self._is_stopping = False

    @property
    def peer(self) -> str:
        """The client's address, '' when it was gone before it could be asked."""
        peer = self.session.peer if self.session else None
        return str(peer[0]) if peer else ""

    async def conversation(self) -> None:
        """Ends when the conversation does; cancelled, it takes the conversation with it."""
        if self._handler_coroutine is not None:
            await self._handler_coroutine

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected; with implicit TLS, its handshake is done."""
        self.is_encrypted = transport.get_extra_info("sslcontext") is not None
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Octets of the client arrived."""
        self._heard_at = self.loop.time()
        super().data_received(data)

    def eof_received(self) -> bool | None:
        """The client will send no more; what it sent is still answered."""
        return asyncio.StreamReaderProtocol.eof_received(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is gone: the conversation finds out at its next read or write."""
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.transport = None

    def _timeout_cb(self) -> None:
        left = self._timeout_duration - (self.loop.time() - self._heard_at)
        if self.phase is Phase.APPENDING:  # we are slow, not the client
            self._reset_timeout()
        elif left > 0:
            self._reset_timeout(left)
        else:
            self._leave(IDLE)

    # The conversation

    def stop(self) -> None:
        """Say 421 now if the client is not in the middle of a message, else after it."""
        self._is_stopping = True
        if self.phase in {Phase.TALKING, Phase.UPGRADING}:
            self._leave(SHUTTING_DOWN)

    async def _handle_client(self) -> None:
        try:
            await self._converse()
        except Goodbye as goodbye:
            self._leave(goodbye.reply)
        except (OSError, EOFError) as loss:  # also TLS failures and half a line
            log.debug("submission.connection_lost", peer=self.peer, reason=type(loss).__name__)
        finally:
            self._close()

    async def _converse(self) -> None:
        await self.push(f"220 {self.hostname} {self.__ident__}")
        while self.transport is not None:
            line = await self.next_line()
            self.errors.command()
            await self._obey(line)
            if self._is_stopping:
                raise Goodbye.of(SHUTTING_DOWN)

    async def _obey(self, line: bytes) -> None:
        try:
            await self._dispatch(line)
        except Goodbye:
            raise
        except Refused as refusal:
            await self.push(str(refusal.reply))
            if refusal.reply.is_permanent:
                self.errors.error()
        except (OSError, EOFError):
            raise
        except Exception as error:  # noqa: BLE001  (the loop's edge: a fault of ours is temporary for the client)
            await self.push(await self.handle_exception(error))

    async def _dispatch(self, line: bytes) -> None:
        name, _, argument = line.partition(b" ")
        verb = self.verbs.get(name.upper().decode("ascii", "replace"))
        if verb is None:
            raise Refused(500, "5.5.2", "Command not recognized")
        if len(line) > MAX_COMMAND_LINE and name.upper() != b"AUTH":
            raise Refused(500, "5.5.2", "Command line too long")
        try:
            text = argument.decode().strip(" ")
        except UnicodeDecodeError:
            raise Refused(500, "5.5.2", "Command is not UTF-8") from None
        await verb(self, text)

    async def handle_exception(self, error: Exception) -> str:
        """The reply to a fault of ours: temporary, and nothing of our insides."""
        log.error("submission.failed", peer=self.peer, exc_info=error)
        self.reset()
        return str(FAULT)

    def reset(self) -> None:
        """Forget the transaction, if there is one."""
        self._set_rset_state()  # type: ignore[no-untyped-call]

    async def next_line(self) -> bytes:
        """The next line without its end. Replies leave first, unless the client has sent more already."""
        if b"\n" not in self._reader._buffer:  # type: ignore[attr-defined]  # noqa: SLF001  (no public way to look)
            await self.flush()
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise Goodbye.of(LINE_TOO_LONG) from None
        if len(line) > MAX_AUTH_LINE + 2:
            raise Goodbye.of(LINE_TOO_LONG)
        return line.rstrip(b"\r\n")

    async def push(self, status: AnyStr) -> None:
        """Keep a reply until `flush`."""
        self._replies.append(status if isinstance(status, bytes) else status.encode())

    async def flush(self) -> None:
        """Send the replies that were kept."""
        if self._replies:
            self._writer.write(self._take_replies())
            await self._writer.drain()

    def _take_replies(self) -> bytes:
        replies = b"".join(reply + b"\r\n" for reply in self._replies)
        self._replies.clear()
        return replies

    async def upgrade(self) -> None:
        """Begin TLS. What came in the clear is dropped: it could be anyone's (RFC 3207 section 4.2).

        Reading is paused from the drop to the handshake: nothing that could wait stands between them.
        """
        await self.flush()
        self._reader._buffer.clear()  # type: ignore[attr-defined]  # noqa: SLF001  (no public way to discard)
        self.phase = Phase.UPGRADING
        await self._writer.start_tls(self._tls, ssl_handshake_timeout=min(HANDSHAKE, self._timeout_duration))
        self.transport = self._writer.transport
        self._reader._transport = self.transport  # type: ignore[attr-defined]  # noqa: SLF001  (done since 3.12)
        self.is_encrypted = True
        self.phase = Phase.TALKING

    def _leave(self, last: Reply) -> None:
        """Say a last reply, if it can be said, and close."""
        CUT_OFF.labels(f"{last.code} {last.status}").inc()
        if self.transport is None or self._writer.is_closing():
            return
        if self.phase is Phase.UPGRADING:
            self._writer.transport.abort()
            return
        self._writer.write(self._take_replies() + f"{last}\r\n".encode())
        self._close()

    def _close(self) -> None:
        """Close once the last reply is read, or soon without: a client that does not read holds no socket."""
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        if self.transport is None:
            return
        transport = self._writer.transport
        transport.close()
        self._timeout_handle = self.loop.call_later(_LINGER, transport.abort)
