"""What went wrong with the database, in a few words that hold no address, user, SQL or data."""

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from history.errors import HistoryError

_WORDS = {  # SQLSTATE, or its class
    "28": "login refused",
    "3D": "no such database",
    "40": "transaction undone by the server",
    "42501": "permission denied",
    "42": "tables missing or unknown to us",
    "53100": "disk full",
    "53300": "no connection left",
    "53": "out of resources",
    "55P03": "a lock was not given in time",
    "57014": "statement took too long",
    "57": "server is shutting down or starting",
    "25": "database is read-only",
}
_FULL_WORDS = ("too many", "connection slots")  # a refused greeting comes without its SQLSTATE
_FILE_WORDS = (
    *("locked", "malformed", "unable to open", "readonly", "disk"),
    *("no such table", "no such column", "has no column named"),
)


def words(error: BaseException) -> str:
    """A short description for the backlog and the log."""
    if isinstance(error, HistoryError):
        return str(error)  # our own, meant to be shown
    if isinstance(error, PoolTimeout):
        return "no connection in time"
    if isinstance(error, DBAPIError):
        return _told_by_server(error)
    if isinstance(error, SQLAlchemyError):
        return f"database layer: {type(error).__name__}"
    return type(error).__name__


def _told_by_server(error: DBAPIError) -> str:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    told = _WORDS.get(state) or _WORDS.get(state[:2])
    if told:
        return f"{told} ({state})"
    if not state and any(word in str(error.orig) for word in _FULL_WORDS):
        return _WORDS["53300"]
    file = next((word for word in _FILE_WORDS if word in str(error.orig)), None)
    if file:
        return f"database file: {file}"
    return f"rejected ({state})" if state else "connection refused or lost"
