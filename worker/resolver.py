"""The DNS resolver of this installation: the system's, or those of NIGHTMAIL_DNS_RESOLVERS."""

import dns.asyncresolver
import dns.inet
import dns.nameserver

from runtime.settings import Settings

_PORT = 53


def resolver(settings: Settings) -> dns.asyncresolver.Resolver:
    """A resolver. Raises ValueError for a malformed setting, OSError when the system's configuration cannot be read."""
    if not settings.dns_resolvers:
        return dns.asyncresolver.Resolver()
    found = dns.asyncresolver.Resolver(configure=False)
    found.nameservers = [_server(each.strip()) for each in settings.dns_resolvers.split(",")]
    return found


def _server(written: str) -> dns.nameserver.Nameserver:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`."""
    address, port = written, ""
    if not dns.inet.is_address(written):
        address, _, port = written.rpartition(":")
        address = address.strip("[]")
    if not dns.inet.is_address(address) or not (port or "0").isdigit():
        raise ValueError(f"NIGHTMAIL_DNS_RESOLVERS: {written} is no address or address:port")
    return dns.nameserver.Do53Nameserver(address, int(port or _PORT))
