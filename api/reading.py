"""What a request to send is read by: a field of its head, and its body.

Straight from what the server gives: the framework's `Request` and `Headers` take longer than all the checks of a mail.
"""

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope


def field(scope: Scope, name: bytes) -> str | None:
    """The first field of this name, which is in lower case; None without one."""
    for found, value in scope["headers"]:
        if found == name:
            text: str = value.decode("latin-1")
            return text
    return None


async def whole_body(receive: Receive) -> bytes:
    """All of it. Raises ClientDisconnect."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)
