"""Lists of IP networks as a setting writes them, and the question whether an address is in one."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

Network = IPv4Network | IPv6Network


def parse_networks(written: str) -> tuple[Network, ...]:
    """Networks in CIDR notation, with commas or spaces between. Raises ValueError, which names what is wrong.

    Together they may not be all of IPv4 or all of IPv6: whoever writes that means something else.
    """
    networks = tuple(_network(word) for word in written.replace(",", " ").split())
    merged: list[Network] = [
        *collapse_addresses(network for network in networks if isinstance(network, IPv4Network)),
        *collapse_addresses(network for network in networks if isinstance(network, IPv6Network)),
    ]
    if any(network.prefixlen == 0 for network in merged):
        raise ValueError("that is every address; name the networks that are yours")
    return networks


def _network(word: str) -> Network:
    try:
        return ip_network(word)
    except ValueError as error:
        raise ValueError(f"{error}; write networks as 10.1.0.0/16 or fd00::/8") from None


def network_of(host: str, networks: Iterable[Network]) -> Network | None:
    """The first of `networks` that holds the address `host`. An IPv4 client of an IPv6 listener is an IPv4 client."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return next((network for network in networks if address in network), None)
