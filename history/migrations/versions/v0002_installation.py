"""The checkpoint names the installation whose events the tables hold. Does nothing where the column is there."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column."""
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("checkpoint")}
    if "installation" not in present:
        op.add_column("checkpoint", sa.Column("installation", _WORD))


def downgrade() -> None:
    """Not written: to go back, drop the tables and let the recorder refill them."""
    raise NotImplementedError
