"""The tables, the same on PostgreSQL and SQLite. A migration test holds them to history/migrations/.

No foreign keys: every row is derived from events by one writer, and any one table may be lost and refilled alone.
They stand here in the order in which everyone locks them.
Columns named `number` hold the event that set the row, so that a replayed, older event changes nothing.
"""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from history.guards import refuse_drop_all
from history.tally import COUNTED
from runtime.clock import from_ms, to_ms

# Ids and states compare byte by byte everywhere, as in Python and Redis; a locale would skip the hyphens of a UUID.
Word = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# On SQLite only INTEGER is the row id itself.
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON(none_as_null=True)


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant in milliseconds: `timestamptz`, or an integer on SQLite, which has no such type."""

    impl = sa.TIMESTAMP(timezone=True).with_variant(sa.BigInteger(), "sqlite")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """To the wire."""
        return value if value is None or dialect.name != "sqlite" else to_ms(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """From the wire; PostgreSQL answers in the session's zone, so UTC is made explicit."""
        if value is None:
            return None
        return from_ms(value) if dialect.name == "sqlite" else from_ms(to_ms(value))


metadata = sa.MetaData()
sa.event.listen(metadata, "before_drop", refuse_drop_all)

checkpoint = sa.Table(
    "checkpoint",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # always 1
    sa.Column("number", Number, nullable=False),  # of the last event that is in the tables
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("installation", Word),  # whose events these are (history/installation.py); null: nobody said yet
)

emails = sa.Table(
    "emails",
    metadata,
    sa.Column("id", Word, primary_key=True),
    sa.Column("number", Number, nullable=False),  # of its `accepted` event
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("via", Word, nullable=False),
    sa.Column("key_id", Word, nullable=False),
    sa.Column("reverse_path", sa.Text, nullable=False),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("to", Json, nullable=False),
    sa.Column("cc", Json, nullable=False),
    sa.Column("bcc", Json, nullable=False),
    sa.Column("reply_to", Json, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("tags", Json, nullable=False),  # [[name, value], ...]
    sa.Column("message_id_header", sa.Text, nullable=False),
    sa.Column("size", Number, nullable=False),  # octets of the content
    sa.Column("text_derived", sa.Boolean, nullable=False),
    sa.Column("smtputf8", sa.Boolean, nullable=False),
    sa.Column("scheduled_at", Instant),
    sa.Column("scheduled_number", Number, nullable=False),  # the event that set scheduled_at
    sa.Column("complained", sa.Boolean, nullable=False),
    sa.Column("reaction", Word),  # opened or clicked, the furthest that is known; null: nothing is
    sa.Column("last_event", Word, nullable=False),  # derived from the recipients' states, in Resend's words
    sa.Index("emails_by_age", "created_at", "id"),  # read backwards: the newest first
    sa.Index(
        "emails_by_status",
        "last_event",
        "created_at",
        "id",
        postgresql_where=sa.text("last_event <> 'delivered'"),
        sqlite_where=sa.text("last_event <> 'delivered'"),
    ),
    sa.Index("emails_by_sender", "reverse_path", "created_at", "id"),
)

# Without the condition, mail that has no tags would cost as much as other mail.
TAGGED = "tags::text <> '[]'"
# SQLite has nothing like it, and walks through the emails instead.
BY_TAG = f"CREATE INDEX IF NOT EXISTS emails_by_tag ON emails USING gin ((tags::jsonb) jsonb_path_ops) WHERE {TAGGED}"
sa.event.listen(emails, "after_create", sa.DDL(BY_TAG).execute_if(dialect="postgresql"))  # type: ignore[no-untyped-call]

recipients = sa.Table(
    "recipients",
    metadata,
    sa.Column("email_id", Word, primary_key=True),
    sa.Column("idx", sa.Integer, primary_key=True),  # place among the message's recipients
    sa.Column("address", Word, nullable=False),
    sa.Column("kind", Word, nullable=False),
    sa.Column("domain", Word, nullable=False),
    sa.Column("delivery", sa.Integer, nullable=False),  # place of its delivery among the message's
    sa.Column("state", Word, nullable=False),
    sa.Column("number", Number, nullable=False),  # the event that set state
    sa.Column("outcome", Word),  # what the last attempt moved it to; null before the first
    sa.Column("outcome_number", Number, nullable=False),
    sa.Column("code", sa.Integer, nullable=False),  # reply code (RFC 5321), 0 if there was none
    sa.Column("status", Word, nullable=False),  # enhanced status code (RFC 3463)
    sa.Column("text", sa.Text, nullable=False),  # the server's words
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Index("recipients_by_address", "address"),
    sa.Index("recipients_by_domain", "domain"),
    # Nearly all rows end as delivered; the others are what one searches for.
    sa.Index(
        "recipients_by_state",
        "state",
        postgresql_where=sa.text("state <> 'delivered'"),
        sqlite_where=sa.text("state <> 'delivered'"),
    ),
    sqlite_with_rowid=False,
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("number", Number, primary_key=True, autoincrement=False),
    sa.Column("email_id", Word, nullable=False),  # empty for a policy change
    sa.Column("kind", Word, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("body", Json, nullable=False),  # the other fields; `accepted` less its message, which is in emails
    sa.Index("events_by_email", "email_id", "number"),
)

contents = sa.Table(
    "contents",
    metadata,
    sa.Column("email_id", Word, primary_key=True),
    sa.Column("raw", sa.LargeBinary, nullable=False),  # RFC 5322 octets, compressed (runtime/compression.py)
)

policy_objects = sa.Table(
    "policy_objects",
    metadata,
    sa.Column("kind", Word, primary_key=True),
    sa.Column("name", Word, primary_key=True),
    sa.Column("value", Json),  # null: removed
    sa.Column("number", Number, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
)

# Read instead of emails and recipients where only numbers are asked for.
email_counts = sa.Table(
    "email_counts",
    metadata,
    sa.Column("slot", Instant, primary_key=True),  # beginning of a quarter of an hour
    sa.Column("domain", Word, primary_key=True),  # of the envelope sender
    sa.Column("number", Number, nullable=False),  # the last event that is counted
    *(sa.Column(name, Number, nullable=False) for name in COUNTED),
)
