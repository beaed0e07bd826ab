"""How long each step with a next hop may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. Defaults are the minimums of RFC 5321 section 4.5.3.2, with a bound on the whole transaction.

    Each is the time until the *whole* reply is there, so that a server that drips octets gains nothing.
    """

    connect: float = 30
    tls: float = 30
    greeting: float = 300  # 4.5.3.2.1
    hello: float = 300
    auth: float = 60
    mail: float = 300  # 4.5.3.2.2
    rcpt: float = 300  # 4.5.3.2.3
    data: float = 120  # 4.5.3.2.4
    block: float = 180  # 4.5.3.2.5
    dot: float = 600  # 4.5.3.2.6
    transaction: float = 1200  # 50 slow recipients would otherwise take hours
    quit: float = 2


RFC5321 = Timeouts()
