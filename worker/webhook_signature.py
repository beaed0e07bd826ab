"""The headers by which a receiver knows that a message is ours (Svix's, of which Standard Webhooks came). Pure."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from outbox.webhook import PREFIX


def signed_headers(message_id: str, body: bytes, secrets: Sequence[str], *, at: int) -> dict[str, str]:
    """Headers for an attempt at `at` (Unix time), signed with every secret that is valid."""
    content = f"{message_id}.{at}.".encode() + body
    signatures = (hmac.digest(_key(secret), content, hashlib.sha256) for secret in secrets)
    return {
        "svix-id": message_id,
        "svix-timestamp": str(at),
        "svix-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in signatures),
    }


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX))
