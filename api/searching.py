"""The query of GET /emails beyond Resend's: what to search for. Asks the history alone."""

from collections.abc import Mapping

from api.errors import invalid_parameter
from api.instants import read_instant
from api.openapi import SEARCH_WORDS
from history.search import Search
from outbox.states import LastEvent

_LONGEST = 320  # octets of an address (RFC 3696 erratum 1690), and enough for words of a subject


def read_search(query: Mapping[str, str]) -> Search | None:
    """What to search for; None when nothing is asked. Raises ApiError 422, which names the parameter."""
    given = {word: query[word] for word in SEARCH_WORDS if word in query}
    if not given:
        return None
    for word, value in given.items():
        if not 1 <= len(value) <= _LONGEST or not value.isprintable():
            raise invalid_parameter(word, f"It must have between 1 and {_LONGEST} characters.")
    return Search(
        recipient=given.get("to"),
        sender=given.get("from"),
        domain=given.get("domain"),
        subject=given.get("subject"),
        status=_status(given.get("status")),
        tag=_tag(given.get("tag")),
        since=read_instant("since", given.get("since")),
        until=read_instant("until", given.get("until")),
    )


def _status(written: str | None) -> LastEvent | None:
    if written is None:
        return None
    try:
        return LastEvent(written)
    except ValueError as wrong:
        raise invalid_parameter("status", f"It must be one of {', '.join(LastEvent)}.") from wrong


def _tag(written: str | None) -> tuple[str, str | None] | None:
    if written is None:
        return None
    name, colon, value = written.partition(":")
    return name, value if colon else None
