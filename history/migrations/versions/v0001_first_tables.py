"""The first tables. Creates what is not there, so that it also mends a schema whose version was lost."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Spelled out here and not imported: a released step does not change when history/tables.py does.
_WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON()
_INSTANT = sa.TIMESTAMP(timezone=True).with_variant(sa.BigInteger(), "sqlite")


def _emails() -> None:
    op.create_table(
        "emails",
        sa.Column("id", _WORD, primary_key=True),
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("via", _WORD, nullable=False),
        sa.Column("key_id", _WORD, nullable=False),
        sa.Column("reverse_path", sa.Text, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("to", _JSON, nullable=False),
        sa.Column("cc", _JSON, nullable=False),
        sa.Column("bcc", _JSON, nullable=False),
        sa.Column("reply_to", _JSON, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("tags", _JSON, nullable=False),
        sa.Column("message_id_header", sa.Text, nullable=False),
        sa.Column("size", _NUMBER, nullable=False),
        sa.Column("text_derived", sa.Boolean, nullable=False),
        sa.Column("smtputf8", sa.Boolean, nullable=False),
        sa.Column("scheduled_at", _INSTANT),
        sa.Column("scheduled_number", _NUMBER, nullable=False),
        sa.Column("complained", sa.Boolean, nullable=False),
        sa.Column("last_event", _WORD, nullable=False),
        if_not_exists=True,
    )
    op.create_index("emails_by_age", "emails", ["created_at", "id"], unique=False, if_not_exists=True)


def _recipients() -> None:
    op.create_table(
        "recipients",
        sa.Column("email_id", _WORD, primary_key=True),
        sa.Column("idx", sa.Integer, primary_key=True),
        sa.Column("address", _WORD, nullable=False),
        sa.Column("kind", _WORD, nullable=False),
        sa.Column("domain", _WORD, nullable=False),
        sa.Column("delivery", sa.Integer, nullable=False),
        sa.Column("state", _WORD, nullable=False),
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("outcome", _WORD),
        sa.Column("outcome_number", _NUMBER, nullable=False),
        sa.Column("code", sa.Integer, nullable=False),
        sa.Column("status", _WORD, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_index("recipients_by_address", "recipients", ["address"], unique=False, if_not_exists=True)
    op.create_index(
        "recipients_by_state",
        "recipients",
        ["state"],
        unique=False,
        if_not_exists=True,
        postgresql_where=sa.text("state <> 'delivered'"),
        sqlite_where=sa.text("state <> 'delivered'"),
    )


def _events_and_contents() -> None:
    op.create_table(
        "events",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("email_id", _WORD, nullable=False),
        sa.Column("kind", _WORD, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("body", _JSON, nullable=False),
        if_not_exists=True,
    )
    op.create_index("events_by_email", "events", ["email_id", "number"], unique=False, if_not_exists=True)
    op.create_table(
        "contents",
        sa.Column("email_id", _WORD, primary_key=True),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )


def _policy_and_checkpoint() -> None:
    op.create_table(
        "policy_objects",
        sa.Column("kind", _WORD, primary_key=True),
        sa.Column("name", _WORD, primary_key=True),
        sa.Column("value", _JSON),
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "checkpoint",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False),
        if_not_exists=True,
    )


def upgrade() -> None:
    """Create all tables."""
    _emails()
    _recipients()
    _events_and_contents()
    _policy_and_checkpoint()


def downgrade() -> None:
    """Not written: to go back, drop the tables and let the recorder refill them."""
    raise NotImplementedError
