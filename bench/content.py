"""What the mails of all loads say: text that compresses no better than an encoded file, the worst a mail can hold.

The queue compresses contents, so a line that repeats would flatter us.
"""

import base64
import random

_LINE = 76  # characters, as RFC 2045 section 6.8 has it


def text(size: int, *, seed: int = 0) -> bytes:
    """So many octets in CRLF lines, the last without its line end; each seed another text."""
    octets = base64.b64encode(random.Random(seed).randbytes(size))  # noqa: S311 - no secret
    return b"\r\n".join(octets[at : at + _LINE] for at in range(0, size, _LINE))[:size]
