"""Signatures under addresses that strangers bring back to us: whatever they say is ours, or it is nothing."""

import hashlib
import hmac
from base64 import urlsafe_b64encode

_OCTETS = 24  # of 32: 192 bits are enough, and the addresses stay shorter


class Signer:
    """Signs words for one purpose. A signature of another purpose, or of words cut elsewhere, does not fit."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._key = hmac.digest(secret, f"signature of {purpose}".encode(), hashlib.sha256)

    def sign(self, *words: str) -> str:
        """The signature, in letters that a URL can hold."""
        octets = b"".join(b"%d:%b" % (len(word.encode()), word.encode()) for word in words)
        return urlsafe_b64encode(hmac.digest(self._key, octets, hashlib.sha256)[:_OCTETS]).decode()

    def fits(self, signature: str, *words: str) -> bool:
        """Whether the signature is ours, in a time that does not depend on how wrong it is."""
        return hmac.compare_digest(signature.encode(), self.sign(*words).encode())
