"""DKIM key pairs: made here, published by the owner of the domain, the private half sealed. RSA and Ed25519 (RFC 8463).

The sealed half is bound to its domain and selector: it opens nowhere else.
"""

import base64
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from runtime.clock import from_ms, to_ms
from runtime.sealing import Seal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

RSA_BITS = 2048  # RFC 8301 section 3.2: at least 1024, better 2048; more does not fit into old DNS answers


class Algorithm(StrEnum):
    """The k= tag of the published record (RFC 6376 section 3.6.1)."""

    RSA = "rsa"
    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True)
class DkimKey:
    """One key pair of one domain. `sealed` is the private half, empty once it signs no more."""

    selector: str
    algorithm: Algorithm
    public: str  # base64, as in the p= tag
    sealed: str
    created_at: datetime
    seen_at: datetime | None = None  # when its record was first found in the DNS

    @property
    def record(self) -> str:
        """The TXT record to publish (RFC 6376 section 3.6.1)."""
        return f"v=DKIM1; k={self.algorithm}; p={self.public}"

    def without_private(self) -> Self:
        """The key after its time: its record is still wanted, its private half is gone."""
        return replace(self, sealed="")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        seen_at = to_ms(self.seen_at) if self.seen_at else None
        return asdict(self) | {"created_at": to_ms(self.created_at), "seen_at": seen_at}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(
            selector=fields["selector"],
            algorithm=Algorithm(fields["algorithm"]),
            public=fields["public"],
            sealed=fields.get("sealed", ""),  # an event shows none
            created_at=from_ms(fields["created_at"]),
            seen_at=from_ms(fields["seen_at"]) if fields["seen_at"] else None,
        )


def place_of(domain: str, selector: str) -> str:
    """Where a private key belongs, for its seal."""
    return f"dkim {selector}._domainkey.{domain}"


def make_keys(domain: str, seal: Seal, *, now: datetime) -> tuple[DkimKey, ...]:
    """A key of each algorithm under selectors never used before. Takes 0.1 s of processor. Raises Unsealable."""
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa  # noqa: PLC0415

    word = f"nm{secrets.token_hex(3)}"
    made: dict[Algorithm, RSAPrivateKey | Ed25519PrivateKey] = {
        Algorithm.RSA: rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS),
        Algorithm.ED25519: ed25519.Ed25519PrivateKey.generate(),
    }
    return tuple(_key(domain, f"{word}-{algorithm}", private, seal, now=now) for algorithm, private in made.items())


def _key(
    domain: str, selector: str, private: "RSAPrivateKey | Ed25519PrivateKey", seal: Seal, *, now: datetime
) -> DkimKey:
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    secret = private.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    sealed = seal.seal(secret, place=place_of(domain, selector))
    if isinstance(private, Ed25519PrivateKey):  # RFC 8463 section 4: the bare 32 octets, not a SubjectPublicKeyInfo
        public = private.public_key().public_bytes_raw()
        return DkimKey(selector, Algorithm.ED25519, base64.b64encode(public).decode(), sealed, now)
    public = private.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return DkimKey(selector, Algorithm.RSA, base64.b64encode(public).decode(), sealed, now)
