"""The AUTH dialogues PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login): any user, the API key as password.

A dialogue always takes every line that belongs to it before it fails. Otherwise a client that sends ahead would have
its base64 password read as a command, and commands are what servers log.
"""

import binascii
from base64 import b64encode
from collections.abc import Generator

from smtp.replies import Refused

MECHANISMS = "PLAIN LOGIN"

Asking = Generator[str, str, str]  # yields challenges in base64, is sent the client's lines, returns what it found


def password(mechanism: str, initial: str) -> Asking:
    """Hold the dialogue of `mechanism`, with the initial response if there was one; raises Refused."""
    if mechanism == "PLAIN":
        return _of_plain(_decoded(initial or (yield from _ask(""))))
    if mechanism == "LOGIN":
        user = initial or (yield from _ask("Username:"))
        secret = yield from _ask("Password:")
        _decoded(user)
        return _text(_decoded(secret))
    raise Refused(504, "5.5.4", "Unrecognized authentication type")


def _ask(challenge: str) -> Asking:
    line = yield b64encode(challenge.encode()).decode()
    if line == "*":
        raise Refused(501, "5.7.0", "Authentication cancelled")
    return line


def _of_plain(response: bytes) -> str:
    parts = response.split(b"\0")
    if len(parts) != 3:  # noqa: PLR2004  (authorization identity, user, password)
        raise Refused(501, "5.5.2", "Malformed PLAIN response")
    return _text(parts[2])


def _decoded(line: str) -> bytes:
    if line == "=":  # RFC 4954 section 4: an empty initial response
        return b""
    try:
        return binascii.a2b_base64(line.encode(), strict_mode=True)
    except binascii.Error:
        raise Refused(501, "5.5.2", "Cannot decode base64") from None


def _text(octets: bytes) -> str:
    """The password as text; one that is not UTF-8 cannot be a key, and is left to be unknown."""
    return octets.decode("utf-8", "replace")
