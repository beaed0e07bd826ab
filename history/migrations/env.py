"""Alembic's entry: runs the steps on the connection, and in the transaction, of history/schema.py."""

from alembic import context

from history.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
