"""Secrets at rest: sealed with a key that lies in none of the stores, so that no backup of them gives the secrets away.

AES-256-GCM. The place of a secret is sealed with it, so one that was moved to another place does not open.
"""

import base64
import os
from typing import TYPE_CHECKING

from runtime.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LEAST_BYTES = 16
FILE = "policy-key"
_NONCE = 12
_INFO = b"nightmail policy objects"


class Unsealable(Exception):
    """The secret cannot be read: there is no key, another key, or the secret was damaged."""


class Seal:
    """Seals and opens. Without a key it can do neither and says so."""

    def __init__(self, key: bytes | None) -> None:
        self._cipher = _cipher(key) if key else None

    @classmethod
    def from_settings(cls, settings: Settings) -> "Seal":
        """With NIGHTMAIL_POLICY_KEY, or the file that `nightmail up` makes. Raises ValueError for a short key."""
        return cls(load_policy_key(settings))

    @property
    def has_key(self) -> bool:
        """Whether it can do anything."""
        return self._cipher is not None

    def seal(self, secret: bytes, *, place: str) -> str:
        """The secret as text for a store. `place` names where it belongs. Raises Unsealable."""
        nonce = os.urandom(_NONCE)
        return base64.b64encode(nonce + self._known().encrypt(nonce, secret, place.encode())).decode()

    def open(self, sealed: str, *, place: str) -> bytes:
        """The inverse of `seal`. Raises Unsealable."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            octets = base64.b64decode(sealed, validate=True)
            return self._known().decrypt(octets[:_NONCE], octets[_NONCE:], place.encode())
        except (InvalidTag, ValueError) as damage:
            raise Unsealable("NIGHTMAIL_POLICY_KEY does not fit this secret") from damage

    def _known(self) -> "AESGCM":
        if self._cipher is None:
            raise Unsealable("NIGHTMAIL_POLICY_KEY is not set")
        return self._cipher


def _cipher(key: bytes) -> "AESGCM":
    """Imported here: most processes seal nothing, and the library takes a while to load."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    return AESGCM(HKDF(hashes.SHA256(), length=32, salt=None, info=_INFO).derive(key))


def load_policy_key(settings: Settings) -> bytes | None:
    """The key as configured, or None. Raises ValueError when it is too short to be one."""
    path = settings.data_dir / FILE
    if settings.policy_key is not None:
        key = settings.policy_key.get_secret_value().encode()
    elif path.exists():
        key = path.read_bytes().strip()
    else:
        return None
    if len(key) < LEAST_BYTES:
        raise ValueError(f"NIGHTMAIL_POLICY_KEY needs at least {LEAST_BYTES} bytes")
    return key
