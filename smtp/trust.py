"""Clients that are known by where they are: networks from which mail is taken without AUTH and TLS."""

from collections.abc import Sequence
from datetime import UTC, datetime

from outbox.policy import ApiKey, Permission
from runtime.logs import get
from runtime.networks import Network, network_of

log = get(__name__)


class TrustedNetworks:
    """What `NIGHTMAIL_SMTP_TRUSTED_NETWORKS` names; nobody by default."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks

    def warn(self) -> None:
        """Say in the log that it is on: whoever gets into such a network can send."""
        if self._networks:
            names = [str(network) for network in self._networks]
            log.warning("submission.trusts_networks", networks=names, without="AUTH and TLS")

    def key_of(self, host: str) -> ApiKey | None:
        """What stands in for the API key of a client at `host`; None: it has to log in.

        It names the network, may send from every domain that may be sent from at all, and has the default rate.
        """
        network = network_of(host, self._networks) if self._networks else None
        if network is None:
            return None
        return ApiKey(
            id=f"network:{network}",
            name=f"trusted network {network}",
            digest="",
            permission=Permission.SENDING_ACCESS,
            domain=None,
            rate_limit=None,
            created_at=datetime.fromtimestamp(0, UTC),
        )
