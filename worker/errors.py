"""What keeps a message from the next hop. Facts only: worker/verdict.py decides what each means for the recipients."""

from worker.reply import Reply


class DeliveryError(Exception):
    """Root of what this package raises while it delivers. `reply` is the server's last word, if it had one."""

    def __init__(self, text: str, reply: Reply | None = None) -> None:
        super().__init__(text)
        self.reply = reply


class LookupFailed(DeliveryError):
    """DNS gave no answer: a fault of the resolver, the network or the zone's servers."""


class NoRoute(DeliveryError):
    """DNS answered, and the answer names no address that mail could go to."""


class NoSuchDomain(DeliveryError):
    """The domain does not exist: a definite NXDOMAIN for its own name."""


class NullMx(DeliveryError):
    """The domain says that it takes no mail (RFC 7505)."""


class ConnectFailed(DeliveryError):
    """No TCP connection to the next hop."""


class ConnectionLost(DeliveryError):
    """The connection ended in the middle, by a reset, an EOF or a 421."""


class StepTimeout(DeliveryError, TimeoutError):
    """The next hop took longer than RFC 5321 section 4.5.3.2 grants. The connection is dead from here on."""


class Garbled(DeliveryError):
    """What came is no SMTP reply, or it does not end. The connection is dead from here on."""


class TlsFailed(DeliveryError):
    """TLS was needed and did not come about: not offered, handshake failed, or certificate not trusted."""


class HopRefused(DeliveryError):
    """The next hop does not talk to us at all: its greeting or its answer to EHLO was negative."""


class AuthFailed(DeliveryError):
    """The smarthost does not take our credentials, or offers no mechanism that we speak."""


class Smtputf8Missing(DeliveryError):
    """The message needs SMTPUTF8 and the next hop does not offer it (RFC 6531 section 3.2)."""


class TooLarge(DeliveryError):
    """The message is larger than the next hop's SIZE limit (RFC 1870 section 6.1)."""


class CannotSign(DeliveryError):
    """The sender's domain has DKIM keys and they cannot be read now: a fault of ours."""


class ContentAway(DeliveryError):
    """The store of large contents does not answer: our affair, and it passes."""


class LeaseLost(DeliveryError):
    """We could not be sure of our lease before the final dot: nothing was delivered, somebody else may send it."""
