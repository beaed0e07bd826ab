"""Whether a local stack serves: every listener is asked the question a client would ask first."""

import http.client
import socket
from collections.abc import Callable

from redis.exceptions import RedisError

from runtime.connections import redis_sync
from runtime.settings import Settings

_PATIENCE = 2.0  # seconds for one answer


def reachable(host: str) -> str:
    """The address at which a listener on `host` is reached from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def store_answers(settings: Settings) -> bool:
    """Whether the queue is up and has loaded its data."""
    redis = redis_sync(settings, timeout=_PATIENCE)
    try:
        return bool(redis.ping())
    except (RedisError, OSError):
        return False
    finally:
        redis.close()


def missing(settings: Settings) -> list[str]:
    """The listeners that do not serve yet, by name."""
    host = reachable(settings.host)
    checks: dict[str, Callable[[], bool]] = {
        "mailbox": lambda: mailbox_serves(settings),
        "api": lambda: _http_ok(host, settings.api_port, "/readyz"),
        "control": lambda: _http_ok(host, settings.control_port, "/livez"),
        "smtp": lambda: _greets(host, settings.smtp_port) and _listens(host, settings.smtps_port),
    }
    return [name for name, well in checks.items() if not well()]


def mailbox_serves(settings: Settings) -> bool:
    """Whether the mailbox takes and shows mail, or there is none."""
    if settings.route != "mailbox":
        return True
    host = reachable(settings.host)
    return _greets(host, settings.mailbox_smtp_port) and _http_ok(host, settings.mailbox_port, "/livez")


def _http_ok(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _greets(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _PATIENCE) as connection:
            connection.settimeout(_PATIENCE)
            return connection.recv(3) == b"220"
    except OSError:
        return False


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _PATIENCE).close()
    except OSError:
        return False
    return True
