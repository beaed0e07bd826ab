import subprocess
import sys

import pytest

DATABASE = {"sqlalchemy", "alembic", "psycopg", "history"}
HTTP_CLIENTS = {"httpx", "requests", "urllib3", "aiohttp"}


@pytest.mark.parametrize(
    ("role", "strangers"),
    [("api", DATABASE), ("smtp", DATABASE | HTTP_CLIENTS), ("worker", DATABASE), ("ticker", DATABASE)],
)
def test_what_takes_and_delivers_mail_loads_no_database(role, strangers):
    """The whole process, wired as it runs, has not imported SQLAlchemy; SMTP has no HTTP client either."""
    code = f"import sys, nightmail.cli, nightmail.commands.roles, nightmail.roles.{role}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & strangers
    assert "runtime" in loaded


def test_the_check_above_would_see_a_database():
    """The control process does load SQLAlchemy, so its absence elsewhere means something."""
    code = "import sys, nightmail.roles.control; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
