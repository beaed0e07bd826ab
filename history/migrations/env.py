"""Alembic's entry: runs the steps on the connection, and in the transaction, of history/schema.py."""

from alembic import context

from history import guards
from history.tables import metadata

connection = context.config.attributes["connection"]
# Upgrade, downgrade, stamp: none of them touches production unasked, whoever calls it.
guards.require(guards.mark_of(connection), context.config.attributes.get("permit"))
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
