"""Indexes to search emails by. Creates those that are not there."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_UNUSUAL = sa.text("last_event <> 'delivered'")


def upgrade() -> None:
    """Create them."""
    op.create_index(
        "emails_by_status",
        "emails",
        ["last_event", "created_at", "id"],
        if_not_exists=True,
        postgresql_where=_UNUSUAL,
        sqlite_where=_UNUSUAL,
    )
    op.create_index("emails_by_sender", "emails", ["reverse_path", "created_at", "id"], if_not_exists=True)
    op.create_index("recipients_by_domain", "recipients", ["domain"], if_not_exists=True)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX IF NOT EXISTS emails_by_tag ON emails USING gin ((tags::jsonb) jsonb_path_ops)")


def downgrade() -> None:
    """Not written: to go back, drop the tables and let the recorder refill them."""
    raise NotImplementedError
