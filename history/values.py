"""From our rows to the values that a driver takes: JSON as text, instants as integers, no NUL.

PostgreSQL's text holds no NUL, and one in a remote's reply must not stop the recorder for ever: it becomes U+FFFD.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

import orjson
import sqlalchemy as sa

from history.moves import Row
from history.tables import Instant

_ESCAPED_NUL = "\\u0000"


class Values:
    """Makes the values of the columns `names` of a table, in this order, two names at least."""

    def __init__(self, table: sa.Table, names: Sequence[str], *, instant: Callable[[datetime], int]) -> None:
        kinds = [table.c[name].type for name in names]
        makers = [_maker(kind, instant) for kind in kinds]
        self._pick = itemgetter(*names)
        self._texts = [place for place, kind in enumerate(kinds) if isinstance(kind, sa.Text)]
        self._makers = [(place, make) for place, make in enumerate(makers) if make]

    def of(self, row: Row) -> list[Any]:
        """The values of one row. Written out, since it runs for each row that there is."""
        values = [*self._pick(row)]
        for place in self._texts:
            value = values[place]
            if value and "\x00" in value:
                values[place] = without_nul(value)
        for place, make in self._makers:
            if (value := values[place]) is not None:
                values[place] = make(value)
        return values


def _maker(kind: Any, instant: Callable[[datetime], int]) -> Callable[[Any], Any] | None:
    match kind:
        case sa.JSON():
            return to_json
        case Instant():
            return instant
    return None


def to_json(value: Any) -> str:
    """The value as JSON. The search for NULs costs one fast pass, the replacing only where it is needed."""
    if value in ([], ()):  # as most fields of a mail are
        return "[]"
    text = orjson.dumps(value).decode()
    return orjson.dumps(without_nul(value)).decode() if _ESCAPED_NUL in text else text


def without_nul(value: Any) -> Any:
    """A text, or a JSON value that holds texts, with U+FFFD for each NUL."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case dict():
            return {without_nul(key): without_nul(part) for key, part in value.items()}
        case list() | tuple():
            return [without_nul(part) for part in value]
    return value


def quoted(name: str) -> str:
    """A column's name in SQL: `to` is a word of its grammar."""
    return f'"{name}"'
