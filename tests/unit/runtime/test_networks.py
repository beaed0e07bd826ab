"""Lists of networks are written as in CIDR notation, and never hold every address."""

import pytest
from pydantic import ValidationError

from runtime.networks import network_of, parse_networks
from runtime.settings import Settings


@pytest.mark.parametrize("written", ["10.1.0.0/16,fd00::/8", "10.1.0.0/16 fd00::/8", " 10.1.0.0/16,\n fd00::/8 "])
def test_commas_and_spaces_part_them(written: str):
    """As people write such lists."""
    assert [str(network) for network in parse_networks(written)] == ["10.1.0.0/16", "fd00::/8"]


@pytest.mark.parametrize(
    "written", ["0.0.0.0/0", "::/0", "10.0.0.0/8, ::/0", "0.0.0.0/1 128.0.0.0/1", "10.0.0.1/8", "ten", "10.0.0.0/33"]
)
def test_what_is_no_network_or_every_address_is_refused(written: str, monkeypatch: pytest.MonkeyPatch):
    """All of the internet, also in halves, host bits, and nonsense: an error that names the setting."""
    monkeypatch.setenv("NIGHTMAIL_SMTP_TRUSTED_NETWORKS", written)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [problem["loc"] for problem in caught.value.errors()] == [("smtp_trusted_networks",)]


@pytest.mark.parametrize(
    ("host", "holds"),
    [
        ("10.1.255.255", True),
        ("10.2.0.0", False),
        ("::ffff:10.1.0.1", True),
        ("::ffff:10.2.0.1", False),
        ("fe80::1%eth0", True),
        ("fd00::1", False),
    ],
)
def test_an_address_is_in_a_network_or_not(host: str, holds: bool):  # noqa: FBT001
    """Mapped IPv4 counts as IPv4, and a zone does not matter."""
    assert (network_of(host, parse_networks("10.1.0.0/16 fe80::/10")) is not None) == holds
