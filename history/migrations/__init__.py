"""Alembic's folder, run by history/schema.py from wherever the package is installed; there is no alembic.ini."""
