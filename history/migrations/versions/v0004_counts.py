"""Counts by quarter of an hour and sender's domain. What was recorded before is not in them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.TIMESTAMP(timezone=True).with_variant(sa.BigInteger(), "sqlite")
_COUNTED = (
    *("sent", "delivered", "delivery_delayed", "bounced_permanent", "bounced_transient", "bounced_undetermined"),
    *("suppressed", "complained", "failed", "opened", "clicked", "unique_opened", "unique_clicked"),
)


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "email_counts",
        sa.Column("slot", _INSTANT, primary_key=True),
        sa.Column("domain", _WORD, primary_key=True),
        sa.Column("number", _NUMBER, nullable=False),
        *(sa.Column(name, _NUMBER, nullable=False) for name in _COUNTED),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Not written: to go back, drop the tables and let the recorder refill them."""
    raise NotImplementedError
