"""Our SMTP client: MAIL transactions over an open session (worker/session.py opens it).

With PIPELINING (RFC 2920) MAIL, all RCPTs and DATA travel in one round trip and the content in a second one; behind the
final dot go MAIL, RCPTs and DATA of the message that follows, so that a run of messages costs one round trip each
(section 3.1 allows the content as the first part of such a group). The last piece of the content is held together with
the final dot until `before_dot` says that the message is still ours to send.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing

from outbox.blobs import OpenBlob
from outbox.errors import ObjectsUnavailable
from worker.envelope import Envelope, blocks_stuffed, dots_stuffed, rcpt, writable
from worker.errors import (
    ConnectionLost,
    ContentAway,
    DeliveryError,
    Garbled,
    LeaseLost,
    Smtputf8Missing,
    StepTimeout,
    TooLarge,
)
from worker.failpoint import Step, reach
from worker.hop import Hop
from worker.reply import Code, Reply
from worker.timeouts import Timeouts
from worker.transaction import Transaction
from worker.wire import Wire

BLOCK = 64 * 1024  # octets written at once; the last block goes with the final dot
UNWRITABLE = Reply(Code.BAD_MAILBOX_NAME, ("5.1.3 the address cannot be written in SMTP",))

BeforeDot = Callable[[], bool]


class _Progress(Transaction):
    """A transaction under way: its record so far, and a stopwatch."""

    def __init__(self, envelope: Envelope, timeouts: Timeouts) -> None:
        super().__init__([])
        self.envelope = envelope
        self.asked: dict[int, str] = {}
        self.accepted = 0  # of those asked
        for index, path in enumerate(envelope.recipients):
            if writable(path):
                self.asked[index] = path
                self.rcpts.append(None)
            else:
                self.rcpts.append(UNWRITABLE)
        self._timeouts = timeouts
        self._mark = self._end = 0.0

    def start(self) -> None:
        """Its turn begins: its times count from here, even if it was announced before."""
        self._mark = time.perf_counter()
        self._end = self._mark + self._timeouts.transaction

    def lap(self, step: str) -> None:
        """The step is done: note its time."""
        now = time.perf_counter()
        self.steps.append((step, int((now - self._mark) * 100_000) / 100))  # `round` would go by way of text
        self._mark = now

    def limit(self, phase: float) -> float:
        """Seconds that a wait may take: the phase's, or what is left of the transaction's. Raises StepTimeout."""
        left = self._end - time.perf_counter()
        if left <= 0:
            raise StepTimeout("the transaction takes too long")
        return min(phase, left)

    def has_recipient(self) -> bool:
        """Whether the transaction has a recipient."""
        return self.accepted > 0 and self.mail is not None and self.mail.positive

    def answered(self, index: int, reply: Reply) -> None:
        """What the server says to a recipient."""
        self.rcpts[index] = reply
        self.accepted += reply.positive


class Client:
    """An open SMTP session. One transaction at a time; after any failure of the connection `usable` is False."""

    def __init__(self, wire: Wire, hop: Hop, *, features: Mapping[str, str], timeouts: Timeouts) -> None:
        self._wire = wire
        self._features = features
        self._timeouts = timeouts
        self._open = False  # a transaction was begun that no final dot ended, so RSET must come first
        self._ahead: _Progress | None = None  # announced behind the last final dot: nothing else may be sent now
        self.hop = hop
        self.peer = f"{hop.host}[{wire.address}]:{hop.port}"
        self.tls = wire.tls
        self.sent = 0  # transactions so far

    @property
    def usable(self) -> bool:
        """Whether any other transaction may start on this connection."""
        return self._ahead is None and self._wire.usable

    @property
    def announced(self) -> Envelope | None:
        """The message whose MAIL went out behind the last final dot."""
        return self._ahead.envelope if self._ahead else None

    def ready(self, envelope: Envelope) -> bool:
        """Whether this one may: the one that was announced, or any if none was."""
        if self._ahead is None:
            return self._wire.usable
        return self._ahead.envelope is envelope and not self._wire.failed

    async def send(
        self, envelope: Envelope, *, before_dot: BeforeDot, following: Envelope | None = None
    ) -> Transaction:
        """One transaction. Never raises for what the next hop does; the record says how far it came.

        `before_dot` is asked at the last moment: on False the connection is cut and nothing was delivered (LeaseLost).
        `following` may be announced with the final dot; then this connection is good for nothing else (`ready`).
        """
        announced, self._ahead = self._ahead, None
        progress = announced or _Progress(envelope, self._timeouts)
        progress.start()
        self.sent += 1
        try:
            if announced is None:
                await self._announce(progress)
            else:
                await self._announced(progress)
            if self._is_content_asked(progress):
                if progress.has_recipient():
                    last = _whole(envelope.content) or await self._content(progress)
                    await self._end(last, progress, before_dot, following)
                else:
                    await self._lone_dot(progress)
        except (Smtputf8Missing, TooLarge) as error:  # before a word was said: the connection is as good as it was
            progress.error = error
        except DeliveryError as error:
            self.abort()
            progress.error = error
        except BaseException:  # cancelled: replies would be out of step with commands
            self.abort()
            raise
        return progress

    async def _announce(self, progress: _Progress) -> None:
        """MAIL, RCPTs and DATA, and the replies to them."""
        mail = progress.envelope.mail(self._features)
        if not progress.asked:
            return
        reach(Step.BEFORE_MAIL)
        if "PIPELINING" not in self._features:
            await self._announce_stepwise(mail, progress)
            return
        reset, self._open = self._open, True
        self._wire.write((b"RSET\r\n" if reset else b"") + _group(mail, progress))
        if reset:
            await self._reset_reply(progress)
        await self._announced(progress)

    async def _announced(self, progress: _Progress) -> None:
        """The replies to a group that was sent in one write (RFC 2920 section 3.1), in turn.

        Where all came with the reply to the dot before them, there is no time of theirs to tell.
        """
        take, timeouts = self._wire.take, self._timeouts  # mostly all are there: a coroutine for each would cost more
        is_timed = not self._wire.has(len(progress.asked) + 2)
        progress.mail = _final(take() or await self._reply(progress, timeouts.mail))
        if is_timed:
            progress.lap("mail")
        for index in progress.asked:
            progress.answered(index, _final(take() or await self._reply(progress, timeouts.rcpt)))
        if is_timed:
            progress.lap("rcpt")
        progress.data = take() or await self._reply(progress, timeouts.data)
        if is_timed:
            progress.lap("data")

    async def _announce_stepwise(self, mail: bytes, progress: _Progress) -> None:
        """The same, each command after the reply to the one before."""
        if self._open:
            self._wire.write(b"RSET\r\n")
            await self._reset_reply(progress)
        self._wire.write(mail)
        progress.mail = _final(await self._reply(progress, self._timeouts.mail))
        progress.lap("mail")
        if not progress.mail.positive:
            return
        for index, path in progress.asked.items():
            self._wire.write(rcpt(path))
            progress.answered(index, _final(await self._reply(progress, self._timeouts.rcpt)))
        progress.lap("rcpt")
        if progress.has_recipient():
            self._wire.write(b"DATA\r\n")
            progress.data = await self._reply(progress, self._timeouts.data)
            progress.lap("data")

    async def _reset_reply(self, progress: _Progress) -> None:
        reply = _final(await self._reply(progress, self._timeouts.mail))
        if reply.closing:
            raise ConnectionLost(str(reply), reply)
        if not reply.positive:
            raise Garbled(f"unexpected answer to RSET: {reply}")

    def _is_content_asked(self, progress: _Progress) -> bool:
        """Whether the server waits for content."""
        if not progress.asked:
            return False
        reach(Step.AFTER_RCPT)
        if progress.data is not None and progress.data.code == Code.START_INPUT:
            return True
        self._open = progress.mail is not None and progress.mail.positive
        if progress.data is not None and progress.data.positive:
            raise Garbled(f"unexpected answer to DATA: {progress.data}")
        return False

    async def _content(self, progress: _Progress) -> bytes:
        """Sends all of a long content but its last piece, which goes with the final dot."""
        content = progress.envelope.content
        if not isinstance(content, bytes):
            return await self._stream(content, progress)
        data = dots_stuffed(content)
        last = len(data) - BLOCK
        for start in range(0, last, BLOCK):
            self._wire.write(data[start : min(start + BLOCK, last)])
            await self._wire.drain(progress.limit(self._timeouts.block))
        return data[last:]

    async def _stream(self, content: OpenBlob, progress: _Progress) -> bytes:
        """The same of a large content, of which two blocks are in memory at most."""
        held = b""
        async with aclosing(blocks_stuffed(content)) as blocks:
            try:
                async for block in blocks:
                    self._wire.write(held)
                    await self._wire.drain(progress.limit(self._timeouts.block))
                    held = block
            except ObjectsUnavailable as failure:
                raise ContentAway(str(failure)) from failure
        return held

    async def _end(self, last: bytes, progress: _Progress, before_dot: BeforeDot, following: Envelope | None) -> None:
        """The last piece with the final dot, if the message is still ours, and with what announces the next one."""
        ahead, group = self._prepare(following)
        if not before_dot():
            raise LeaseLost("the lease ran out before the final dot")
        reach(Step.BEFORE_DOT)
        progress.in_doubt = True
        self._wire.write(b"".join((last, b".\r\n", group)))
        reach(Step.AFTER_DOT)
        progress.dot = _final(await self._reply(progress, self._timeouts.dot))
        reach(Step.AFTER_250)
        progress.in_doubt = False
        progress.lap("dot")
        self._ahead = ahead
        self._open = ahead is not None  # whatever the answer, the dot's transaction has ended (RFC 5321 4.1.1.4)

    def _prepare(self, following: Envelope | None) -> tuple[_Progress | None, bytes]:
        """What announces the message that follows; nothing where this server or that message does not allow it."""
        if following is None or "PIPELINING" not in self._features:
            return None, b""
        try:
            mail = following.mail(self._features)
        except (Smtputf8Missing, TooLarge):
            return None, b""
        ahead = _Progress(following, self._timeouts)
        return (ahead, _group(mail, ahead)) if ahead.asked else (None, b"")

    async def _lone_dot(self, progress: _Progress) -> None:
        """The server waits for content although it took no recipient: end it at once (RFC 2920 section 3.1)."""
        self._wire.write(b".\r\n")
        await self._reply(progress, self._timeouts.dot)
        self._open = False

    def _reply(self, progress: _Progress, phase: float) -> Awaitable[Reply]:
        """The next reply, waited for."""
        return self._wire.reply(progress.limit(phase))

    async def quit(self) -> None:
        """Say goodbye if the server listens (RFC 5321 section 4.1.1.10), then close."""
        try:
            if self.usable:
                self._wire.write(b"QUIT\r\n")
                await self._wire.reply(self._timeouts.quit)
        except DeliveryError:
            pass
        finally:
            self._wire.abort()

    def abort(self) -> None:
        """Cut the connection; octets not yet sent never will be."""
        self._wire.abort()


def _final(reply: Reply) -> Reply:
    """The reply, where none can be 3yz. One that is: replies and commands are out of step, trust none."""
    if reply.intermediate:
        raise Garbled(f"unexpected answer: {reply}")
    return reply


def _whole(content: bytes | OpenBlob) -> bytes:
    """A content that goes with its final dot, as DATA carries it; nothing of a longer one."""
    return dots_stuffed(content) if isinstance(content, bytes) and len(content) <= BLOCK else b""


def _group(mail: bytes, progress: _Progress) -> bytes:
    """MAIL, RCPTs and DATA as one group of commands."""
    return b"".join((mail, *map(rcpt, progress.asked.values()), b"DATA\r\n"))
