"""What one process will bear: connections in total and by source, commands and errors by session, octets in memory."""

import ipaddress
from collections import Counter

from smtp.replies import Goodbye

MAX_ERRORS = 20  # permanent refusals without an accepted message between; Postfix's smtpd_hard_error_limit
MAX_COMMANDS = 300  # commands without an accepted message between, beside those that name recipients
MAX_SURPLUS = 1_000  # recipients without an accepted message between, beyond the most of a message
MAX_COMMAND_LINE = 2_000  # octets; RFC 5321 section 4.5.3.1.4 asks for 512, parameters and UTF-8 paths add to it
MAX_AUTH_LINE = 12_288  # octets of a base64 line: RFC 4954 section 4
MEMORY_MESSAGES = 8  # largest messages in memory at once, over all sessions: a thousand of 40 MB cannot be held


class Connections:
    """Counts the open connections. A slot is kept until `leave`."""

    def __init__(self, *, most: int, most_per_host: int) -> None:
        self._most = most
        self._most_per_host = most_per_host
        self._by_source: Counter[str] = Counter()

    def enter(self, host: str) -> None:
        """Take a slot for a connection from `host`; raises Goodbye when there is none."""
        if self._by_source.total() >= self._most:
            raise Goodbye(421, "4.3.2", "Too many connections, try again later")
        if self._by_source[_source(host)] >= self._most_per_host:
            raise Goodbye(421, "4.7.0", "Too many connections from your address")
        self._by_source[_source(host)] += 1

    def leave(self, host: str) -> None:
        """Give the slot back."""
        source = _source(host)
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]


def _source(host: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 that one IPv6 customer usually has."""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))


class Errors:
    """Counts what one session wastes; an accepted message wipes the slate."""

    __slots__ = ("_commands", "_errors", "_most_recipients", "_recipients")

    def __init__(self, *, max_recipients: int) -> None:
        self._most_recipients = max_recipients + MAX_SURPLUS
        self.reset()

    def reset(self) -> None:
        """A message was accepted."""
        self._commands = self._recipients = self._errors = 0

    def command(self) -> None:
        """One more command; raises Goodbye when there were too many."""
        self._commands += 1
        if self._commands > MAX_COMMANDS:
            raise Goodbye(421, "4.7.0", "Too many commands without a message")

    def recipient(self) -> None:
        """The command names a recipient, which is no waste; raises Goodbye when there were too many all the same.

        Lists are sent with many more than a message may have, and each surplus one must be told, so that the message
        goes to the others (RFC 5321 section 4.5.3.1.10).
        """
        self._commands -= 1
        self._recipients += 1
        if self._recipients > self._most_recipients:
            raise Goodbye(421, "4.7.0", "Too many recipients without a message")

    def error(self) -> None:
        """One more permanent refusal; raises Goodbye when there were too many."""
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            raise Goodbye(421, "4.7.0", "Too many errors")
