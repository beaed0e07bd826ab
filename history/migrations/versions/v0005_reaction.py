"""Emails tell whether they were opened or clicked. Does nothing where the column is there."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column."""
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("emails")}
    if "reaction" not in present:
        op.add_column("emails", sa.Column("reaction", _WORD))


def downgrade() -> None:
    """Not written: to go back, drop the tables and let the recorder refill them."""
    raise NotImplementedError
