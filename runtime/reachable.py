"""Which network addresses a stranger's URL may lead to: the public internet, and what the operator names. Pure.

An address that carries another one inside (IPv4-mapped, NAT64, 6to4) is as good as the one inside. Whatever is not
known to be public is refused.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from runtime.networks import Network

_UNICAST = IPv6Network("2000::/3")  # all global unicast there is (RFC 4291 section 2.4)
_TEREDO = IPv6Network("2001::/32")  # carries a server and a client (RFC 4380): nobody serves HTTP there
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052; networks without IPv4 of their own reach it so
_METADATA = frozenset({IPv4Address("168.63.129.16")})  # a cloud's agent behind a public address (Azure)


def is_reachable(written: str, allowed: Iterable[Network] = ()) -> bool:
    """Whether a connection may go to this address: it is public, or in one of the `allowed` networks."""
    try:
        address = _inner(ip_address(written))
    except ValueError:
        return False
    return any(address in network for network in allowed) or _is_public(address)


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast or address in _METADATA:
        return False
    return isinstance(address, IPv4Address) or (address in _UNICAST and address not in _TEREDO)
