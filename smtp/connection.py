"""One SMTP connection: obeys command lines, answers, keeps time, upgrades to TLS. Knows nothing of mail.

What has come is worked off at once, in the call that brought it: a task is made only for what must wait, which is an
append and a TLS handshake. Replies to pipelined commands leave together (RFC 2920). No line of a client is ever logged
or echoed: it might be a password that lost its way. Why none of it is aiosmtpd's: docs/decisions/0007-smtp-session.md.

A lost connection does not cancel what is under way: an append is finished and recorded, not torn in half.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Generator
from enum import Enum, auto
from typing import Any, ClassVar, cast

from runtime.logs import get
from runtime.settings import Settings
from smtp.data import Content
from smtp.limits import MAX_AUTH_LINE, MAX_COMMAND_LINE, Errors
from smtp.metrics import CUT_OFF
from smtp.replies import FAULT, IDLE, LINE_TOO_LONG, SHUTTING_DOWN, TOO_SLOW, Goodbye, Refused, Reply

log = get(__name__)

_LINGER = 5.0  # seconds in which a last reply must have been read, before the socket is dropped
HANDSHAKE = 30.0  # longest TLS handshake, seconds
_SLOWEST = 2_048  # octets a second of content, below what any line brings; a message has the idle time on top
_MOST_AHEAD = 65_536  # octets that a client may send ahead of our answers before we stop reading

Verb = Callable[[Any, str], None]
Dialogue = Generator[str, str, None]  # yields what is said with 334, is sent the client's line; raises Refused


class Phase(Enum):
    """What the connection is doing, which decides who reads what comes, and whether it may be told to go."""

    TALKING = auto()  # the client gives commands
    RECEIVING = auto()  # the client sends content
    APPENDING = auto()  # we make a message durable: the client waits for us
    UPGRADING = auto()  # TLS handshake: nothing can be said
    CLOSING = auto()  # the last reply was said


class Connection(asyncio.Protocol):
    """Its verbs are in `verbs`, by name. A subclass takes the content that follows DATA."""

    verbs: ClassVar[dict[bytes, Verb]] = {}

    def __init__(self, settings: Settings, *, tls: ssl.SSLContext) -> None:
        self.loop = asyncio.get_running_loop()
        self.hostname = settings.smtp_hostname
        self.errors = Errors(max_recipients=settings.max_recipients)
        self.phase = Phase.TALKING
        self.is_encrypted = False
        self.transport: asyncio.Transport | None = None
        self.peer = ""  # the client's address, '' when it was gone before it could be asked
        self._tls = tls
        self._timeout = settings.smtp_timeout.total_seconds()
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = self.loop.time()  # a whole line, or content
        self._heard = b""  # and not yet obeyed
        self._replies: list[str] = []
        self._dialogue: Dialogue | None = None
        self._content: Content | None = None
        self._content_since = 0.0
        self._work: asyncio.Task[None] | None = None
        self._is_reading = True
        self._is_congested = False  # the client does not take our replies
        self._has_all = False  # the client will send no more
        self._is_stopping = False
        self._over = asyncio.Event()

    async def conversation(self) -> None:
        """Ends when the conversation does, appends included. Cancelled, it cuts the client off."""
        try:
            await self._over.wait()
        finally:
            if self.transport is not None:
                self.transport.abort()

    def stop(self) -> None:
        """Say 421 now if the client is not in the middle of a message, else after it."""
        self._is_stopping = True
        if self.phase in (Phase.TALKING, Phase.UPGRADING):
            self._leave(SHUTTING_DOWN)

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected; with implicit TLS, its handshake is done."""
        self.transport = cast("asyncio.Transport", transport)
        self.is_encrypted = self._is_over_tls()
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else ""
        self._heard_at = self.loop.time()
        self._timer = self.loop.call_later(self._timeout, self._keep_time)
        self.push(f"220 {self.hostname} ESMTP Nightmail")
        self._proceed()

    def data_received(self, data: bytes) -> None:
        """Octets of the client arrived."""
        self._heard = self._heard + data if self._heard else data
        self._proceed()

    def eof_received(self) -> bool:
        """The client will send no more; what it sent is still answered, which TLS cannot do."""
        self._has_all = True
        self._proceed()
        return not self._is_over_tls()

    def pause_writing(self) -> None:
        """The client does not take our replies: nothing more is obeyed until it does."""
        self._is_congested = True

    def resume_writing(self) -> None:
        """It does again."""
        self._is_congested = False
        self._proceed()

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is gone. An append that is under way comes to its end first."""
        if error is not None:
            log.debug("submission.connection_lost", peer=self.peer, reason=type(error).__name__)
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._content is not None:
            self._content.release()
        if self._work is None:
            self._over.set()

    def _is_over_tls(self) -> bool:
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is not None

    def _keep_time(self) -> None:
        """Cut off who is silent, or so slow that it comes to the same: an octet now and then holds no connection."""
        now = self.loop.time()
        left, last = self._heard_at + self._timeout - now, IDLE
        if self._content is not None:
            slack = self._content_since + self._timeout + self._content.size / _SLOWEST - now
            if slack < left:
                left, last = slack, TOO_SLOW
        if self.phase is Phase.APPENDING:  # we are slow, not the client
            left = self._timeout
        if left <= 0:
            self._leave(last)
        else:
            self._timer = self.loop.call_later(left, self._keep_time)

    # The conversation

    def _proceed(self) -> None:
        """Obey all that has come, until the client must say more or must wait for us."""
        while self._heard and self._is_listening() and self._obey_next():
            pass
        if self._is_stopping and self.phase is Phase.TALKING:
            self._leave(SHUTTING_DOWN)
        self._flush()
        if self._is_reading is (len(self._heard) > _MOST_AHEAD):
            self._regulate()
        if self._has_all and self._is_listening():
            self._close()

    def _is_listening(self) -> bool:
        """Whether what comes is worked off now. Who is to go may end the message that is on its way, and no more."""
        if self._is_congested:
            return False
        return self.phase is Phase.RECEIVING or (self.phase is Phase.TALKING and not self._is_stopping)

    def _obey_next(self) -> bool:
        """Take one step; False when what has come is no whole step."""
        try:
            if self._content is not None:
                self._heard_at = self.loop.time()
                return self._gather(self._content)
            line, end, rest = self._heard.partition(b"\n")
            if len(line) > MAX_AUTH_LINE + 1:
                raise Goodbye.of(LINE_TOO_LONG)
            if not end:
                return False
            self._heard, self._heard_at = rest, self.loop.time()
            self._obey(line.rstrip(b"\r\n"))
        except Exception as failure:  # noqa: BLE001  (the edge: a fault of ours is temporary for the client)
            self._answer(failure)
        return True

    def _obey(self, line: bytes) -> None:
        if self._dialogue is not None:
            self._advance(self._dialogue, line)
            return
        self.errors.command()
        name, _, argument = line.partition(b" ")
        verb = self.verbs.get(name.upper())
        if verb is None:
            raise Refused(500, "5.5.2", "Command not recognized")
        if len(line) > MAX_COMMAND_LINE and name.upper() != b"AUTH":
            raise Refused(500, "5.5.2", "Command line too long")
        try:
            text = argument.decode().strip(" ")
        except UnicodeDecodeError:
            raise Refused(500, "5.5.2", "Command is not UTF-8") from None
        verb(self, text)

    def _answer(self, failure: Exception) -> None:
        """A refusal is said, a goodbye last; a fault of ours is temporary, and nothing of our insides is told."""
        if not isinstance(failure, Refused):
            log.error("submission.failed", peer=self.peer, exc_info=failure)
            self.reset()
            failure = Refused.of(FAULT)
        if isinstance(failure, Goodbye):
            self._leave(failure.reply)
            return
        self.push(str(failure.reply))
        if failure.reply.is_permanent:
            try:
                self.errors.error()
            except Goodbye as goodbye:
                self._leave(goodbye.reply)

    def reset(self) -> None:
        """Forget the transaction, if there is one. For a subclass to say."""

    # What a verb may do

    def push(self, reply: str) -> None:
        """Say this reply line, together with those to all that has come."""
        self._replies.append(reply)

    def hold(self, dialogue: Dialogue) -> None:
        """Let the next lines be those of `dialogue`, until it ends."""
        self._dialogue = dialogue
        self._advance(dialogue, None)

    def _advance(self, dialogue: Dialogue, line: bytes | None) -> None:
        try:
            said = next(dialogue) if line is None else dialogue.send(line.decode("ascii", "replace"))
        except StopIteration:
            self._dialogue = None
        except Exception:
            self._dialogue = None
            raise
        else:
            self.push(f"334 {said}")

    def receive(self, content: Content) -> None:
        """Let what comes be content, up to its final dot; then `received` is called with it."""
        self._content = content
        self._content_since = self.loop.time()
        self.phase = Phase.RECEIVING

    def _gather(self, content: Content) -> bool:
        rest = content.feed(self._heard)
        self._heard = rest or b""
        if rest is None:
            return False
        self._content = None
        self.phase = Phase.TALKING
        try:
            self.received(content)
        except BaseException:
            content.release()
            raise
        return True

    def received(self, content: Content) -> None:
        """The content is here, whole or refused. For a subclass to take, and to release."""
        raise NotImplementedError

    def wait_for(self, work: Coroutine[Any, Any, None], phase: Phase) -> None:
        """Obey nothing until `work` is done. What it raises is answered like what a verb raises."""
        self.phase = phase
        self._work = self.loop.create_task(self._finish(work))

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as failure:  # noqa: BLE001  (the edge, as in `_obey_next`)
            self._answer(failure)
        self._work = None
        self._heard_at = self.loop.time()  # the client could only wait
        if self.transport is None:
            self._over.set()
        elif self.phase is not Phase.CLOSING:
            self.phase = Phase.TALKING
            self._proceed()

    async def upgrade(self) -> None:
        """Begin TLS. What came in the clear is dropped: it could be anyone's (RFC 3207 section 4.2).

        Nothing that could wait stands between the drop and the moment when TLS takes over the reading.
        """
        if self.transport is None:
            return
        transport, self._heard, self._is_reading = self.transport, b"", True
        try:
            self.transport = await self.loop.start_tls(
                transport,
                self,
                self._tls,
                server_side=True,
                ssl_handshake_timeout=min(HANDSHAKE, self._timeout),
            )
        except OSError as failure:  # a failed handshake is not told by `connection_lost`
            transport.abort()
            self.phase = Phase.CLOSING
            self.connection_lost(failure)
        else:
            self.is_encrypted = True

    # Writing, and the end

    def _flush(self) -> None:
        if self._replies and self.transport is not None:
            self._replies.append("")
            self.transport.write("\r\n".join(self._replies).encode())
            self._replies.clear()

    def _regulate(self) -> None:
        """Stop reading while the client is too far ahead of us, or read on."""
        if self.transport is None or self.phase in (Phase.UPGRADING, Phase.CLOSING):
            return
        if self._is_reading:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()
        self._is_reading = not self._is_reading

    def _leave(self, last: Reply) -> None:
        """Say a last reply, if it can be said, and close."""
        CUT_OFF.labels(f"{last.code} {last.status}").inc()
        if self.transport is None or self.phase is Phase.CLOSING:
            return
        if self.phase is Phase.UPGRADING:
            self.transport.abort()
            return
        self.push(str(last))
        self._flush()
        self._close()

    def _close(self) -> None:
        """Close once the last reply is read, or soon without: a client that does not read holds no socket."""
        self.phase = Phase.CLOSING
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None:
            self.transport.close()
            self._timer = self.loop.call_later(_LINGER, self.transport.abort)
