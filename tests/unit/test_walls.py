"""The send plane starts without the database's code; the import linter (`make check`) holds the other walls."""

import subprocess
import sys

import pytest

SEND_PLANE = {
    "send API": "api.send",
    "SMTP": "smtp.server",
    "worker": "worker.process, worker.jobs",
    "ticker": "worker.ticker",
}
NEVER = {"sqlalchemy", "alembic", "history", "psycopg"}


def loaded(modules):
    """Top-level packages in a fresh interpreter that imported these modules."""
    code = f"import {modules}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("process", SEND_PLANE)
def test_send_plane_loads_no_database(process):
    """Importing all of a send-plane process brings in neither SQLAlchemy nor anything of ours that needs it."""
    assert not loaded(SEND_PLANE[process]) & NEVER


def test_smtp_loads_no_http_client():
    """SMTP submission cannot call the API, because it has nothing to call it with."""
    assert not loaded(SEND_PLANE["SMTP"]) & {"httpx", "requests", "urllib3", "aiohttp"}


def test_the_test_can_fail():
    """The control plane does load the database's code."""
    assert "sqlalchemy" in loaded("history.recorder")
