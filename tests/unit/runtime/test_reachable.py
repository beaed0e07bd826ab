"""Where a stranger's URL may lead."""

from ipaddress import ip_network

import pytest

from runtime.outside import Refused, check_url
from runtime.reachable import is_reachable

PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1", "2002:101:101::1"]
PRIVATE = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
    "100.100.100.200", "168.63.129.16", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::7f00:1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254",
    "fec0::1", "ff02::1", "2001:db8::1", "2001::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "localhost", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_reached(address):
    """The internet, also through NAT64 and in its mapped forms."""
    assert is_reachable(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_everything_else_may_not(address):
    """Loopback, private, link-local, metadata, multicast, reserved, and each of them wrapped in IPv6."""
    assert not is_reachable(address)


def test_a_setting_lets_a_private_network_in():
    """Only that network, also in its mapped form."""
    allowed = (ip_network("10.1.0.0/16"), ip_network("::1/128"))
    assert is_reachable("10.1.2.3", allowed)
    assert is_reachable("::ffff:10.1.2.3", allowed)
    assert is_reachable("::1", allowed)
    assert not is_reachable("10.2.0.1", allowed)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.acme.test/x?y=z",
        "http://hooks.acme.test",
        "https://hooks.acme.test:443/",
        "https://hooks.acme.test:8443/",
        "https://bücher.test/",
        "https://[2606:4700::1111]/",
    ],
)
def test_urls_that_may_be_asked(url):
    """HTTP and HTTPS, at their own ports or at high ones."""
    assert check_url(url).hostname


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks", "ftp://a.test/", "file:///etc/passwd", "gopher://a.test:70/", "unix:/run/x", "http://",
        "https://user@a.test/", "https://user:pw@a.test/", "http://a.test:25/", "http://a.test:22/",
        "http://a.test:99999/", "http://127.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://2130706433/",
        "http://0x7f.0.0.1/", "http://0x7f000001/", "http://127.1/", "http://0177.0.0.1/", "http://169.254.169.254/",
        "http://a.test/\r\nX: y", "http://a.test/ x", "https://a.test/" + "x" * 2048, "http://[fe80::1%25eth0]/",
        "https://" + "a" * 64 + ".test/",
    ],
)  # fmt: skip
def test_urls_that_may_not(url):
    """Other schemes, passwords, ports of other protocols, private addresses in any notation, and garbage."""
    with pytest.raises(Refused):
        check_url(url)
