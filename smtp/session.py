"""The verbs of mail submission (RFC 6409): greet, STARTTLS, AUTH, and the transaction MAIL, RCPT, DATA.

The last stop before a message is ours: 250 to the final dot is said only when `Intake.take` came back.
"""

import asyncio
import ssl
from base64 import b64encode
from typing import ClassVar, cast

from aiosmtpd.smtp import Envelope as Transaction

from outbox.policy import ApiKey
from runtime.logs import get
from runtime.settings import Settings
from smtp import auth
from smtp.connection import Connection, Phase, Verb
from smtp.content import Envelope
from smtp.data import receive
from smtp.intake import Intake, note_refusal
from smtp.limits import Memory
from smtp.metrics import AUTHS
from smtp.paths import parse_mail, parse_rcpt
from smtp.replies import Goodbye, Refused

log = get(__name__)


class SubmissionSession(Connection):
    """One client's session. Replies carry enhanced status codes (RFC 2034) but for greetings, 334 and 354.

    `network_key` stands in for an API key where the client's network is trusted.
    """

    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        *,
        tls: ssl.SSLContext,
        memory: Memory,
        network_key: ApiKey | None = None,
    ) -> None:
        super().__init__(settings, tls=tls)
        self._settings = settings
        self._intake = intake
        self._memory = memory
        self._network_key = network_key
        self._is_extended = False
        self._key: ApiKey | None = None
        self._token = ""
        self._auth_failures = 0

    @property
    def _transaction(self) -> Transaction:
        return cast("Transaction", self.envelope)

    # Greeting

    async def smtp_HELO(self, argument: str) -> None:  # noqa: N802  (RFC 5321's names)
        """RFC 5321 section 4.1.1.1. A client that greets so cannot AUTH: only a trusted network's can send."""
        self._greet(argument, extended=False)
        await self.push(f"250 {self.hostname}")

    async def smtp_EHLO(self, argument: str) -> None:  # noqa: N802
        """What we can do; AUTH is offered under TLS only (RFC 4954 section 4)."""
        self._greet(argument, extended=True)
        offers = ["PIPELINING", f"SIZE {self._settings.max_message_bytes}", "8BITMIME", "SMTPUTF8"]
        offers.append(f"AUTH {auth.MECHANISMS}" if self.is_encrypted else "STARTTLS")
        for line in (self.hostname, *offers):
            await self.push(f"250-{line}")
        await self.push("250 ENHANCEDSTATUSCODES")

    def _greet(self, argument: str, *, extended: bool) -> None:
        if not argument:
            raise Refused(501, "5.5.4", "Say your name")
        self.reset()
        self._is_extended = extended

    async def smtp_STARTTLS(self, argument: str) -> None:  # noqa: N802
        """RFC 3207. The session begins anew under TLS."""
        if argument:
            raise Refused(501, "5.5.4", "STARTTLS takes no argument")
        if self.is_encrypted:
            raise Refused(503, "5.5.1", "Already under TLS")
        await self.push("220 2.0.0 Ready to start TLS")
        await self.upgrade()
        self._is_extended = False
        self.reset()

    # Authentication

    async def smtp_AUTH(self, argument: str) -> None:  # noqa: N802
        """RFC 4954. Any user name; the password is the API key."""
        mechanism, _, initial = argument.partition(" ")
        self._check_may_auth(mechanism)
        try:
            token = await auth.password(mechanism.upper(), initial.strip(), ask=self._ask)
            self._key, self._token = self._intake.authenticate(token), token
        except Refused as refusal:
            self._auth_failures += refusal.reply.is_permanent
            AUTHS.labels(str(refusal.reply.code)).inc()
            log.warning("submission.auth_refused", peer=self.peer, reply=str(refusal.reply))
            raise
        AUTHS.labels("235").inc()
        await self.push("235 2.7.0 Authentication successful")

    def _check_may_auth(self, mechanism: str) -> None:
        if not self.is_encrypted:
            raise Refused(538, "5.7.11", "Encryption required: STARTTLS first")
        if not self._is_extended:
            raise Refused(503, "5.5.1", "EHLO first")
        if self._key is not None or self._transaction.mail_from is not None:
            raise Refused(503, "5.5.1", "AUTH comes once, before MAIL")
        if not mechanism:
            raise Refused(501, "5.5.4", "Name a mechanism")
        if self._auth_failures >= self._settings.smtp_auth_tries:
            raise Goodbye(421, "4.7.0", "Too many failed authentications")

    async def _ask(self, challenge: str) -> str:
        await self.push(f"334 {b64encode(challenge.encode()).decode()}")
        line = await self.next_line()
        if line == b"*":
            raise Refused(501, "5.7.0", "Authentication cancelled")
        return line.decode("ascii", "replace")

    # The transaction

    async def smtp_MAIL(self, argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.2, SIZE of RFC 1870, SMTPUTF8 of RFC 6531. Counts against the key's rate."""
        key = self._sender()
        if self._transaction.mail_from is not None:
            raise Refused(503, "5.5.1", "Nested MAIL")
        mail = parse_mail(argument)
        if mail.size > self._settings.max_message_bytes:
            raise Refused(552, "5.3.4", f"Message larger than {self._settings.max_message_bytes} octets")
        if key is self._key:
            key = self._key = self._intake.still_valid(self._token, key)
        self._intake.admit(key)
        self._transaction.mail_from = mail.reverse_path
        self._transaction.smtp_utf8 = mail.smtputf8
        await self.push("250 2.1.0 Ok")

    def _sender(self) -> ApiKey:
        """Whose mail it is: the key's that logged in, else the trusted network's."""
        key = self._key or self._network_key
        if key is None:
            raise Refused(530, "5.7.0", "Authentication required" if self.is_encrypted else "STARTTLS first")
        return key

    async def smtp_RCPT(self, argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.3. A recipient named twice is one recipient."""
        self._sender()
        if self._transaction.mail_from is None:
            raise Refused(503, "5.5.1", "MAIL first")
        recipients = self._transaction.rcpt_tos
        address = parse_rcpt(argument, smtputf8=self._transaction.smtp_utf8)
        if address not in recipients:
            if len(recipients) >= self._settings.max_recipients:
                raise Refused(452, "4.5.3", "Too many recipients")
            recipients.append(address)
        await self.push("250 2.1.5 Ok")

    async def smtp_DATA(self, argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.4. Whatever the reply to the dot, the transaction is over."""
        key = self._sender()
        if argument:
            raise Refused(501, "5.5.4", "DATA takes no argument")
        transaction = self._transaction
        if transaction.mail_from is None:
            raise Refused(503, "5.5.1", "MAIL first")
        if not transaction.rcpt_tos:
            raise Refused(554, "5.5.1", "No valid recipients")
        self.reset()
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        await self.flush()
        envelope = Envelope(transaction.mail_from, tuple(transaction.rcpt_tos), transaction.smtp_utf8)
        try:
            message_id = await self._take(envelope, key)
        finally:
            self.phase = Phase.TALKING
        self.errors.reset()
        await self.push(f"250 2.0.0 Ok: queued as {message_id}")

    async def _take(self, envelope: Envelope, key: ApiKey) -> str:
        with self._memory.lease() as lease:
            self.phase = Phase.RECEIVING
            try:
                wire = await receive(self._reader, most=self._settings.max_message_bytes, lease=lease)
            except Refused as refusal:
                note_refusal(refusal.reply, peer=self.peer, key_id=key.id)
                raise
            self.phase = Phase.APPENDING
            # Shielded: when a stopping server cancels this session, the append still comes to its end.
            return await asyncio.shield(self._intake.take(envelope, wire, key, peer=self.peer))

    # The rest

    async def smtp_RSET(self, argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.5."""
        if argument:
            raise Refused(501, "5.5.4", "RSET takes no argument")
        self.reset()
        await self.push("250 2.0.0 Ok")

    async def smtp_NOOP(self, _argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.9."""
        await self.push("250 2.0.0 Ok")

    async def smtp_VRFY(self, _argument: str) -> None:  # noqa: N802
        """RFC 5321 section 7.3: asked, but not told."""
        await self.push("252 2.5.0 Send some mail, I will try my best")

    async def smtp_EXPN(self, _argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.7: there are no lists here."""
        raise Refused(502, "5.5.1", "Not implemented")

    async def smtp_QUIT(self, _argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.10."""
        raise Goodbye(221, "2.0.0", "Bye")

    verbs: ClassVar[dict[str, Verb]] = {
        "HELO": smtp_HELO,
        "EHLO": smtp_EHLO,
        "STARTTLS": smtp_STARTTLS,
        "AUTH": smtp_AUTH,
        "MAIL": smtp_MAIL,
        "RCPT": smtp_RCPT,
        "DATA": smtp_DATA,
        "RSET": smtp_RSET,
        "NOOP": smtp_NOOP,
        "VRFY": smtp_VRFY,
        "EXPN": smtp_EXPN,
        "HELP": smtp_EXPN,
        "QUIT": smtp_QUIT,
    }
