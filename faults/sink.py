"""What the mailbox holds, read from its file: each mail was on its disk before the 250."""

import email
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from nightmail.demo import http_sender, smtp_sender
from nightmail.demo.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Arrival:
    """One copy of one mail. `received_at` in wall clock seconds."""

    number: int
    received_at: float
    message_id: str
    content: bytes


def arrivals(mailbox: Path, ledger: Ledger) -> list[Arrival]:
    """All copies of this run's mails, in the order of their arrival."""
    query = "select subject, received_at, message_id, content from messages where instr(subject, ?) order by n"
    with closing(sqlite3.connect(mailbox, timeout=30)) as db:
        return [
            Arrival(ledger.number(subject), received_at / 1000, message_id, content)
            for subject, received_at, message_id, content in db.execute(query, (ledger.run,))
        ]


def count_distinct(mailbox: Path, run: str) -> int:
    """How many different mails of the run have arrived."""
    query = "select count(distinct subject) from messages where instr(subject, ?)"
    with closing(sqlite3.connect(mailbox, timeout=30)) as db:
        (count,) = db.execute(query, (run,)).fetchone()
    return int(count)


def newest(mailbox: Path) -> int:
    """The number of the mail that came last, 0 before the first."""
    with closing(sqlite3.connect(mailbox, timeout=30)) as db:
        (number,) = db.execute("select coalesce(max(n), 0) from messages").fetchone()
    return int(number)


def altered(arrived: Iterable[Arrival], ledger: Ledger) -> list[int]:
    """Mails whose text is not what was sent. By SMTP every octet of the body is known, by the API the HTML part."""
    return [mail.number for mail in arrived if not _as_sent(mail, ledger)]


def _as_sent(mail: Arrival, ledger: Ledger) -> bool:
    receipt = ledger.receipts.get(mail.number)
    if receipt is None:
        return True
    if receipt.via == "SMTP":
        sent = smtp_sender.text(mail.number).replace("\n", "\r\n").encode()
        return mail.content.partition(b"\r\n\r\n")[2] == sent
    parts = email.message_from_bytes(mail.content).walk()  # the older interface: a tenth of the other one's time
    html = next((part for part in parts if part.get_content_type() == "text/html"), None)
    if html is None:
        return False
    content = cast("bytes", html.get_payload(decode=True)).decode(html.get_content_charset("ascii"))
    return content.rstrip() == http_sender.html(mail.number)
