import pytest

from smtp.limits import Connections
from smtp.replies import Goodbye


def test_a_network_of_one_customer_is_one_source():
    """IPv6 addresses of one /64 share a limit; others, and IPv4 addresses, have their own."""
    connections = Connections(most=10, most_per_host=1)
    connections.enter("2001:db8:0:1::1")
    with pytest.raises(Goodbye, match=r"421 4\.7\.0"):
        connections.enter("2001:db8:0:1:ffff::2")
    connections.enter("2001:db8:0:2::1")
    connections.enter("192.0.2.1")
    connections.enter("192.0.2.2")
    connections.enter("fe80::1%eth0")
    connections.leave("2001:db8:0:1::1")
    connections.enter("2001:db8:0:1::3")
