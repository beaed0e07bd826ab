"""The next hop: a place to connect to, and what must be true of the connection."""

from dataclasses import dataclass
from enum import StrEnum


class Tls(StrEnum):
    """How a connection is encrypted."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"  # STARTTLS if offered, any certificate (RFC 7435): as MX hosts are
    STARTTLS = "starttls"  # STARTTLS required, certificate verified
    IMPLICIT = "implicit"  # TLS from the first octet (RFC 8314), certificate verified


@dataclass(frozen=True, slots=True)
class Hop:
    """One address of a next hop. Equal hops may share a connection."""

    host: str  # for TLS and for people
    port: int
    address: str = ""  # an IP address when it is resolved already
    tls: Tls = Tls.NONE
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Hop({self.name}, {self.tls})"

    @property
    def name(self) -> str:
        """`host[address]:port`, as in a Postfix `relay=`."""
        return f"{self.host}[{self.address or self.host}]:{self.port}"
