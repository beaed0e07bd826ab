"""What the SMTP tests stand on: parts that remember what they were asked, and a client that speaks octet by octet."""

import asyncio
import ssl
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from outbox.accept import Accepted, Submission
from outbox.door import Door
from outbox.errors import IdempotencyConflict, KeyUnknown, Unavailable
from outbox.ids import Idempotency, derive_ids, new_id
from outbox.policy import ApiKey, Permission
from runtime.settings import Settings
from smtp.server import SubmissionServer

TOKEN = "re_abcdefgh_ABCDEFGHIJKLMNOPQRSTUVWX"
KEY = ApiKey(
    id="key-1",
    name="tests",
    digest="",
    permission=Permission.SENDING_ACCESS,
    domain=None,
    rate_limit=None,
    created_at=datetime(2026, 11, 1, tzinfo=UTC),
)
NOW = datetime(2026, 11, 21, 20, 17, tzinfo=UTC)
MAIL = b"From: Ann <ann@sender.example>\r\nTo: bob@dest.example\r\nSubject: Hello\r\n\r\nHello, Bob.\r\n"


class RememberingAcceptor:
    """Takes what it is given, in memory; with `gate` set, it waits for the gate.

    `fault` is raised instead, `full` already at MAIL.
    """

    def __init__(self) -> None:
        self.taken: list[Submission] = []
        self.fault: Exception | None = None
        self.full: Unavailable | None = None
        self.gate: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.door = Door(Settings())
        self._uses: dict[str, tuple[Idempotency, tuple[str, ...]]] = {}

    def demand(self) -> None:
        if self.full is not None:
            raise self.full

    def mint(
        self, count: int, idempotency: Idempotency | None = None, *, now: datetime | None = None
    ) -> tuple[str, ...]:
        if idempotency is None:
            return tuple(new_id(now or NOW) for _ in range(count))
        return derive_ids(b"secret", idempotency, day=1, count=count)

    async def accept(self, submissions: list[Submission], idempotency: Idempotency | None = None) -> Accepted:
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        ids = tuple(submission.message.id for submission in submissions)
        if idempotency is not None:
            first, first_ids = self._uses.setdefault(idempotency.key, (idempotency, ids))
            if first.fingerprint != idempotency.fingerprint:
                raise IdempotencyConflict
            if first is not idempotency:
                return Accepted(first_ids, replayed=True)
        self.taken += submissions
        return Accepted(ids)


class RememberingPolicy:
    """One key. `fault` is raised instead of an answer; `verified` limits the sender domains."""

    def __init__(self) -> None:
        self.key = KEY
        self.fault: Exception | None = None
        self.verified: set[str] | None = None

    def change_key(self, **fields: object) -> None:
        self.key = replace(self.key, **fields)

    def authenticate(self, token: str) -> ApiKey:
        if self.fault is not None:
            raise self.fault
        if token != TOKEN:
            raise KeyUnknown
        return self.key

    def may_send_from(self, domain: str) -> bool:
        return self.verified is None or domain in self.verified


class Dialogue:
    """A client connection. `say` sends octets as they are, and gives the next reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, *, tls: ssl.SSLContext | None = None) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=tls and "localhost"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):  # the server was first, or spoke until the last moment
            await self.writer.wait_closed()

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def reply(self) -> str:
        """The next reply, all its lines; '' when the server has closed."""
        lines = []
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), 10)).decode()
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    async def say(self, octets: bytes) -> str:
        await self.send(octets)
        return await self.reply()

    async def is_closed(self) -> bool:
        """Waits until the server closes; False when it says something first."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 10) == b""
        except OSError:
            return True

    async def log_in(self) -> None:
        """From the greeting to the end of AUTH."""
        assert (await self.reply()).startswith("220 ")
        assert (await self.say(b"EHLO client.example\r\n")).startswith("250-")
        assert (await self.say(plain(TOKEN))).startswith("235 ")

    async def to_data(self, *, sender: bytes = b"ann@sender.example", recipient: bytes = b"bob@dest.example") -> None:
        """From MAIL to 354."""
        assert (await self.say(b"MAIL FROM:<%s>\r\n" % sender)).startswith("250 ")
        assert (await self.say(b"RCPT TO:<%s>\r\n" % recipient)).startswith("250 ")
        assert (await self.say(b"DATA\r\n")).startswith("354 ")


def plain(token: str) -> bytes:
    """AUTH PLAIN with its initial response."""
    return b"AUTH PLAIN " + b64encode(f"\0resend\0{token}".encode()) + b"\r\n"


@dataclass(frozen=True)
class Place:
    """A running server, and the parts it asks."""

    server: SubmissionServer
    settings: Settings
    acceptor: RememberingAcceptor
    policy: RememberingPolicy

    @property
    def trust(self) -> ssl.SSLContext:
        """TLS of a client that trusts the server's own certificate, and checks it."""
        context = ssl.create_default_context(cafile=str(self.settings.data_dir / "tls" / "smtp.crt"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
        return context

    async def client(self) -> Dialogue:
        """A client on the implicit TLS port, before the greeting."""
        return await Dialogue.open(self.server.smtps_port, tls=self.trust)

    async def plain_client(self) -> Dialogue:
        """A client on the STARTTLS port, before the greeting."""
        return await Dialogue.open(self.server.smtp_port)
