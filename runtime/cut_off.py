"""A connection that is cut off while it is being made, told as the connection error that it is.

Under uvloop it has no socket any more by then, and anyio, on which httpx and httpcore stand, asks it for its peer all
the same: what comes out is an AttributeError.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def cut_off_as(error: Callable[[str], Exception]) -> Iterator[None]:
    """Raise `error` where a request of httpx or httpcore fails so."""
    try:
        yield
    except AttributeError as stumble:
        if stumble.name != "getpeername":
            raise
        raise error("the connection was cut off as it was made") from stumble
