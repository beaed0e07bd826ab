"""The index over tags leaves out the emails that have none."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_INDEX = "CREATE INDEX emails_by_tag ON emails USING gin ((tags::jsonb) jsonb_path_ops) WHERE tags::text <> '[]'"


def upgrade() -> None:
    """Make it anew."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX IF EXISTS emails_by_tag")
        op.execute(_INDEX)


def downgrade() -> None:
    """Not written: to go back, drop the tables and let the recorder refill them."""
    raise NotImplementedError
