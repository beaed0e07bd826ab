"""The verbs of mail submission (RFC 6409): greet, STARTTLS, AUTH, and the transaction MAIL, RCPT, DATA.

The last stop before a message is ours: 250 to the final dot is said only when `Intake.take` came back.
"""

import ssl
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import ClassVar

from outbox.door import Octets
from outbox.policy import ApiKey
from runtime.logs import get
from runtime.settings import Settings
from smtp import auth
from smtp.connection import Connection, Phase, Verb
from smtp.content import Envelope
from smtp.data import Content
from smtp.intake import Intake, note_refusal
from smtp.metrics import AUTHS
from smtp.paths import parse_mail, parse_rcpt
from smtp.replies import Goodbye, Refused, too_large

log = get(__name__)


@dataclass(slots=True)
class Transaction:
    """What the client has said since MAIL, or nothing."""

    reverse_path: str | None = None
    recipients: list[str] = field(default_factory=list)
    smtputf8: bool = False
    is_postponed: bool = False  # MAIL was refused for now, and what was pipelined behind it fares no worse


_NONE = Transaction()
_POSTPONED = Transaction(is_postponed=True)


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
        memory: Octets,
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
        self._transaction = _NONE
        self._taking: tuple[Envelope, ApiKey] | None = None  # whose content is on its way

    def reset(self) -> None:
        """Forget the transaction, if there is one."""
        self._transaction = _NONE

    # Greeting

    def smtp_HELO(self, argument: str) -> None:  # noqa: N802  (RFC 5321's names)
        """RFC 5321 section 4.1.1.1. A client that greets so cannot AUTH: only a trusted network's can send."""
        self._greet(argument, extended=False)
        self.push(f"250 {self.hostname}")

    def smtp_EHLO(self, argument: str) -> None:  # noqa: N802
        """What we can do; AUTH is offered under TLS only (RFC 4954 section 4)."""
        self._greet(argument, extended=True)
        offers = ["PIPELINING", f"SIZE {self._settings.max_message_bytes}", "8BITMIME", "SMTPUTF8"]
        offers.append(f"AUTH {auth.MECHANISMS}" if self.is_encrypted else "STARTTLS")
        for line in (self.hostname, *offers):
            self.push(f"250-{line}")
        self.push("250 ENHANCEDSTATUSCODES")

    def _greet(self, argument: str, *, extended: bool) -> None:
        if not argument:
            raise Refused(501, "5.5.4", "Say your name")
        self.reset()
        self._is_extended = extended

    def smtp_STARTTLS(self, argument: str) -> None:  # noqa: N802
        """RFC 3207. The session begins anew under TLS."""
        if argument:
            raise Refused(501, "5.5.4", "STARTTLS takes no argument")
        if self.is_encrypted:
            raise Refused(503, "5.5.1", "Already under TLS")
        self.push("220 2.0.0 Ready to start TLS")
        self._is_extended = False
        self.reset()
        self.wait_for(self.upgrade(), Phase.UPGRADING)

    # Authentication

    def smtp_AUTH(self, argument: str) -> None:  # noqa: N802
        """RFC 4954. Any user name; the password is the API key."""
        mechanism, _, initial = argument.partition(" ")
        self._check_may_auth(mechanism)
        self.hold(self._log_in(mechanism.upper(), initial.strip()))

    def _log_in(self, mechanism: str, initial: str) -> Generator[str, str, None]:
        try:
            token = yield from auth.password(mechanism, initial)
            self._key, self._token = self._intake.authenticate(token), token
        except Refused as refusal:
            self._auth_failures += refusal.reply.is_permanent
            AUTHS.labels(str(refusal.reply.code)).inc()
            log.warning("submission.auth_refused", peer=self.peer, reply=str(refusal.reply))
            raise
        AUTHS.labels("235").inc()
        self.push("235 2.7.0 Authentication successful")

    def _check_may_auth(self, mechanism: str) -> None:
        if not self.is_encrypted:
            raise Refused(538, "5.7.11", "Encryption required: STARTTLS first")
        if not self._is_extended:
            raise Refused(503, "5.5.1", "EHLO first")
        if self._key is not None or self._transaction.reverse_path is not None:
            raise Refused(503, "5.5.1", "AUTH comes once, before MAIL")
        if not mechanism:
            raise Refused(501, "5.5.4", "Name a mechanism")
        if self._auth_failures >= self._settings.smtp_auth_tries:
            raise Goodbye(421, "4.7.0", "Too many failed authentications")

    # The transaction

    def smtp_MAIL(self, argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.2, SIZE of RFC 1870, SMTPUTF8 of RFC 6531. Counts against the key's rate."""
        key = self._sender()
        if self._transaction.reverse_path is not None:
            raise Refused(503, "5.5.1", "Nested MAIL")
        self.reset()
        mail = parse_mail(argument)
        if mail.size > self._settings.max_message_bytes:
            raise Refused.of(too_large(self._settings.max_message_bytes))
        if key is self._key:
            key = self._key = self._intake.still_valid(self._token, key)
        self._transaction = _POSTPONED
        self._intake.admit(key)
        self._transaction = Transaction(mail.reverse_path, smtputf8=mail.smtputf8)
        self.push("250 2.1.0 Ok")

    def _sender(self) -> ApiKey:
        """Whose mail it is: the key's that logged in, else the trusted network's."""
        key = self._key or self._network_key
        if key is None:
            raise Refused(530, "5.7.0", "Authentication required" if self.is_encrypted else "STARTTLS first")
        return key

    def smtp_RCPT(self, argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.3. A recipient named twice is one recipient."""
        self._sender()
        self.errors.recipient()
        self._check_begun()
        recipients = self._transaction.recipients
        address = parse_rcpt(argument, smtputf8=self._transaction.smtputf8)
        if address not in recipients:
            if len(recipients) >= self._settings.max_recipients:
                raise Refused(452, "4.5.3", "Too many recipients")
            recipients.append(address)
        self.push("250 2.1.5 Ok")

    def _check_begun(self) -> str:
        """The reverse-path of the transaction; raises Refused when there is none."""
        if self._transaction.is_postponed:
            raise Refused(451, "4.5.0", "MAIL was refused for now, try again later")
        if self._transaction.reverse_path is None:
            raise Refused(503, "5.5.1", "MAIL first")
        return self._transaction.reverse_path

    def smtp_DATA(self, argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.4. Whatever the reply to the dot, the transaction is over."""
        key = self._sender()
        if argument:
            raise Refused(501, "5.5.4", "DATA takes no argument")
        reverse_path, transaction = self._check_begun(), self._transaction
        if not transaction.recipients:
            raise Refused(554, "5.5.1", "No valid recipients")
        self.reset()
        self._taking = Envelope(reverse_path, tuple(transaction.recipients), transaction.smtputf8), key
        self.push("354 End data with <CR><LF>.<CR><LF>")
        self.receive(Content(most=self._settings.max_message_bytes, memory=self._memory))

    def received(self, content: Content) -> None:
        """The final dot came."""
        assert self._taking is not None  # noqa: S101  (DATA set it)
        (envelope, key), self._taking = self._taking, None
        try:
            wire = content.octets()
        except Refused as refusal:
            note_refusal(refusal.reply, peer=self.peer, key_id=key.id)
            raise
        self.wait_for(self._take(content, envelope, wire, key), Phase.APPENDING)

    async def _take(self, content: Content, envelope: Envelope, wire: bytes, key: ApiKey) -> None:
        try:
            message_id = await self._intake.take(envelope, wire, key, peer=self.peer)
        finally:
            content.release()
        self.errors.reset()
        self.push(f"250 2.0.0 Ok: queued as {message_id}")

    # The rest

    def smtp_RSET(self, argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.5."""
        if argument:
            raise Refused(501, "5.5.4", "RSET takes no argument")
        self.reset()
        self.push("250 2.0.0 Ok")

    def smtp_NOOP(self, _argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.9."""
        self.push("250 2.0.0 Ok")

    def smtp_VRFY(self, _argument: str) -> None:  # noqa: N802
        """RFC 5321 section 7.3: asked, but not told."""
        self.push("252 2.5.0 Send some mail, I will try my best")

    def smtp_EXPN(self, _argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.7: there are no lists here."""
        raise Refused(502, "5.5.1", "Not implemented")

    def smtp_QUIT(self, _argument: str) -> None:  # noqa: N802
        """RFC 5321 section 4.1.1.10."""
        raise Goodbye(221, "2.0.0", "Bye")

    verbs: ClassVar[dict[bytes, Verb]] = {
        b"HELO": smtp_HELO,
        b"EHLO": smtp_EHLO,
        b"STARTTLS": smtp_STARTTLS,
        b"AUTH": smtp_AUTH,
        b"MAIL": smtp_MAIL,
        b"RCPT": smtp_RCPT,
        b"DATA": smtp_DATA,
        b"RSET": smtp_RSET,
        b"NOOP": smtp_NOOP,
        b"VRFY": smtp_VRFY,
        b"EXPN": smtp_EXPN,
        b"HELP": smtp_EXPN,
        b"QUIT": smtp_QUIT,
    }
