"""Headers of the client's own: names and values a mail can carry, and none that say who, when or what the mail is."""

import re
from collections.abc import Mapping

from api.errors import ApiError, invalid
from outbox.header_text import has_control

_MOST = 100
_LONGEST_VALUE = 8192
_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 section 2.2
_OURS = re.compile(
    r"from|sender|to|cc|bcc|reply-to|subject|date|message-id|mime-version|content-.*|resent-.*|return-path|received"
    r"|dkim-signature|authentication-results|arc-.*|x-nightmail-.*|resend-.*",
    re.IGNORECASE,
)


def read_all(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """The headers in their order. Raises ApiError 422 for the first that cannot be sent."""
    if not headers:
        return ()
    if len(headers) > _MOST:
        raise _refusal(f"There are more than {_MOST}.")
    if len({name.lower() for name in headers}) < len(headers):
        raise _refusal("A name is there twice.")
    return tuple(_read(name, value.strip()) for name, value in headers.items())


def _read(name: str, value: str) -> tuple[str, str]:
    if not _NAME.fullmatch(name):
        raise _refusal("A name may have up to 76 printable ASCII characters, but no space and no colon.")
    if _OURS.fullmatch(name):
        raise _refusal(f"`{name}` cannot be set here.")
    if has_control(value) or len(value) > _LONGEST_VALUE:
        raise _refusal(f"The value of `{name}` has a control character or is too long.")
    return name, value


def _refusal(message: str) -> ApiError:
    return invalid(f"Invalid `headers` field. {message}")
