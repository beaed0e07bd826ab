"""What counts as the record that was asked for, and who is asked."""

import pytest

from runtime.settings import Settings
from worker.domain_dns import fits_dkim, fits_spf
from worker.resolver import resolver

WANTED = "v=DKIM1; k=rsa; p=AAAA"


@pytest.mark.parametrize(
    ("published", "fits"),
    [
        ("v=DKIM1; k=rsa; p=AAAA", True),
        ("p=AAAA", True),  # version and algorithm have these defaults
        ("v=DKIM1;k=rsa;t=s;p=AA AA;", True),
        ("v=DKIM1; k=rsa; p=", False),  # revoked (RFC 6376 section 3.6.1)
        ("v=DKIM1; k=rsa; p=BBBB", False),
        ("v=DKIM1; k=ed25519; p=AAAA", False),
        ("v=DKIM2; k=rsa; p=AAAA", False),
        ("any text", False),
    ],
)
def test_keys(published, fits):
    """The same key, however it is written."""
    assert fits_dkim(WANTED, published) is fits


@pytest.mark.parametrize(
    ("published", "fits"),
    [
        ("v=spf1 a:out.test ip4:192.0.2.1 ~all", True),
        ("v=spf1 include:other.test +ip4:192.0.2.1 A:OUT.test -all", True),
        ("v=spf1 a:out.test ~all", False),
        ("v=spf10 a:out.test ip4:192.0.2.1", False),
        ("ip4:192.0.2.1 a:out.test", False),
        ("", False),
    ],
)
def test_spf(published, fits):
    """All our mechanisms are among those of the domain."""
    assert fits_spf("v=spf1 a:out.test ip4:192.0.2.1 ~all", published) is fits


def test_resolvers_are_read():
    """Addresses of both families, with and without ports; anything else is refused at the start."""
    found = resolver(Settings(dns_resolvers="192.0.2.1, 192.0.2.2:5353,2001:db8::1,[2001:db8::2]:5353"))
    assert [(s.address, s.port) for s in found.nameservers] == [
        ("192.0.2.1", 53), ("192.0.2.2", 5353), ("2001:db8::1", 53), ("2001:db8::2", 5353),
    ]  # fmt: skip
    for wrong in ("ns.test", "192.0.2.1:x", "192.0.2.1,"):
        with pytest.raises(ValueError, match="NIGHTMAIL_DNS_RESOLVERS"):
            resolver(Settings(dns_resolvers=wrong))
