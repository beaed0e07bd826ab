"""What the database holds of a run, of either kind: rows that are wrong, and mails flagged as possible duplicates."""

from collections import Counter
from dataclasses import dataclass

import sqlalchemy as sa

from history.tables import emails, events, recipients
from nightmail.demo.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Rows:
    """`wrong`: accepted mails missing, not delivered or there twice, and mails that nobody sent.

    `flagged`: numbers of mails.
    """

    wrong: int
    flagged: frozenset[int]


def rows(url: str, ledger: Ledger) -> Rows:
    """Read them."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as db:
            return _read(db, ledger)
    finally:
        engine.dispose()


def _read(db: sa.Connection, ledger: Ledger) -> Rows:
    ours = emails.c.subject.contains(ledger.run)
    subjects = {row.id: row.subject for row in db.execute(sa.select(emails.c.id, emails.c.subject).where(ours))}
    joined = recipients.join(emails, emails.c.id == recipients.c.email_id)
    delivered = sa.select(emails.c.subject).select_from(joined).where(ours, recipients.c.state == "delivered")
    ended = Counter(ledger.number(subject) for subject in db.execute(delivered).scalars())
    held = Counter(map(ledger.number, subjects.values()))
    sent = ledger.receipts.keys() | ledger.refusals.keys()  # a client that got no answer does not know
    wrong = sum(abs(held[number] - 1) + abs(ended[number] - 1) for number in ledger.receipts)
    wrong += len(held.keys() - sent)
    attempts = db.execute(sa.select(events.c.email_id, events.c.body).where(events.c.kind == "attempted"))
    flagged = {email_id for email_id, body in attempts if body["possible_duplicate"] or body["in_doubt"]}
    return Rows(wrong, frozenset(ledger.number(subjects[id_]) for id_ in flagged & subjects.keys()))
