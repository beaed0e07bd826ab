"""Sends the demo's mails by SMTP submission over STARTTLS, with the standard library, on a few open connections."""

import asyncio
import queue
import smtplib
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import Self

from nightmail.client_details import SMTP_USER, ClientDetails
from nightmail.demo.ledger import Ledger, Receipt

_PATIENCE = 30.0  # seconds of lost connections before we give up
_PAUSE = 0.2
_CONNECTIONS = 16


def text(number: int) -> str:
    """What a mail says."""
    return f"This is mail {number}.\n"


class SmtpSender:
    """A pool of threads, each message on whatever open connection is free."""

    def __init__(self, details: ClientDetails, ledger: Ledger) -> None:
        self._details = details
        self._ledger = ledger
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False  # a stack on this machine has a certificate of its own making
        self._tls.verify_mode = ssl.CERT_NONE
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="smtp-sender")
        self._open: queue.LifoQueue[smtplib.SMTP] = queue.LifoQueue()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown()
        while not self._open.empty():
            self._open.get().close()

    async def send(self, number: int) -> None:
        """Send one mail and write down what became of it. Any reply but 250 is a refusal."""
        begun_at = time.time()
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._threads, self._deliver, number)
        except OSError as error:
            self._ledger.refused(number, repr(error)[:200])
        else:
            self._ledger.took(Receipt(number, "SMTP", "", time.time(), begun_at))

    def _deliver(self, number: int) -> None:
        mail = self._mail(number)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._try(mail)
            except OSError as error:  # smtplib's errors are OSErrors too
                if _answered(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
            else:
                return

    def _try(self, mail: EmailMessage) -> None:
        try:
            connection = self._open.get_nowait()
        except queue.Empty:
            connection = self._connect()
        try:
            connection.send_message(mail)
        except BaseException:
            connection.close()
            raise
        self._open.put(connection)

    def _connect(self) -> smtplib.SMTP:
        connection = smtplib.SMTP(self._details.smtp_host, self._details.smtp_port, timeout=_PATIENCE)
        connection.starttls(context=self._tls)
        connection.login(SMTP_USER, self._details.api_key)
        return connection

    def _mail(self, number: int) -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = "Demo <demo@nightmail.example>"
        mail["To"] = f"reader{number % 100}@example.org"
        mail["Subject"] = self._ledger.subject(number)
        mail["Message-ID"] = f"<demo-{self._ledger.run}-{number}@nightmail.example>"
        mail["Resend-Idempotency-Key"] = f"demo-{self._ledger.run}-{number}"
        mail.set_content(text(number))
        return mail


def _answered(error: BaseException) -> bool:
    """Whether the server said no, rather than nothing."""
    no = (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused)
    return isinstance(error, no)
