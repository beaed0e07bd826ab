"""What the server says when it says no: a reply code (RFC 5321), an enhanced status code (RFC 3463) and a text.

Texts are ours and ASCII: nothing a client sent, nothing about our insides.
"""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply line."""

    code: int
    status: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}"

    @property
    def is_permanent(self) -> bool:
        """Whether the client is told not to try the same again."""
        return self.code >= 500  # noqa: PLR2004  (RFC 5321 section 4.2.1: 5yz)


def too_large(most: int) -> Reply:
    """A message has more octets than `most`."""
    return Reply(552, "5.3.4", f"Message larger than {most} octets")


class Refused(Exception):
    """The command is refused; the session goes on."""

    def __init__(self, code: int, status: str, text: str) -> None:
        self.reply = Reply(code, status, text)
        super().__init__(str(self.reply))

    @classmethod
    def of(cls, reply: Reply) -> Self:
        """The refusal with that reply."""
        return cls(reply.code, reply.status, reply.text)


class Goodbye(Refused):
    """The reply is the last one: the connection is closed after it (RFC 5321 section 3.8)."""


FAULT = Reply(451, "4.3.0", "Temporary fault on our side, try again later")
NO_ROOM = Reply(452, "4.3.1", "No room for more mail now, try again later")
BUSY = Reply(451, "4.3.2", "Too much mail at once, try again later")
SHUTTING_DOWN = Reply(421, "4.3.2", "Shutting down, try again later")
LINE_TOO_LONG = Reply(500, "5.5.6", "Line too long")
IDLE = Reply(421, "4.4.2", "Nothing heard for too long")
TOO_SLOW = Reply(421, "4.4.2", "Message comes too slowly")
