import subprocess
import sys

_CODE = """
import sys, smtp.server
foreign = {"sqlalchemy", "alembic", "history", "api", "worker", "httpx", "requests", "urllib3", "aiohttp", "fastapi"}
print(sorted(foreign & {name.partition(".")[0] for name in sys.modules}))
"""


def test_the_listener_knows_neither_database_nor_http_client():
    """What the SMTP process imports holds no SQLAlchemy, no HTTP client and nothing of the API."""
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
