"""DKIM signatures (RFC 6376), relaxed/relaxed, by RSA-SHA256 and Ed25519-SHA256 (RFC 8301, RFC 8463). Pure.

dkimpy is the verifier of our tests and no signer for us: its RSA is written in Python and takes 12 ms where this takes
0.7 (docs/decisions/0022-domains-and-dkim.md).
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

# Signed once more than they are there, so that nobody can add one that a reader would be shown (RFC 6376 section 8.15).
_SEALED = ("from", "to", "cc", "subject", "date", "message-id", "reply-to", "mime-version", "content-type")
# Signed as often as they are there. Never Bcc, and nothing that relays add or change (RFC 6376 section 5.4.1).
_SIGNED = (
    "sender",
    "content-transfer-encoding",
    "content-disposition",
    "in-reply-to",
    "references",
    "list-id",
    "list-help",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-subscribe",
    "list-post",
    "list-owner",
    "list-archive",
    "feedback-id",
)

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n")
_BLANKS = re.compile(rb"[ \t]+")
_FINAL_BLANKS = re.compile(rb"[ \t]+\r\n")
_LINE = 72  # octets of base64 in one line of the header


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key under its published name."""

    domain: str
    selector: str
    private: PrivateKey

    @classmethod
    def load(cls, domain: str, selector: str, secret: bytes) -> "SigningKey":
        """From PKCS #8 that we made ourselves. Raises ValueError."""
        # The seal it comes out of says that it is whole; the library's own check of the primes takes 80 ms.
        private = load_der_private_key(secret, None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
            raise ValueError("not a key for DKIM")  # noqa: TRY004  (it is the octets that are wrong)
        return cls(domain, selector, private)

    @property
    def algorithm(self) -> str:
        """The a= tag."""
        return "rsa-sha256" if isinstance(self.private, RSAPrivateKey) else "ed25519-sha256"

    def sign(self, octets: bytes) -> bytes:
        """RFC 8463 section 3 signs the hash with Ed25519, as RSA does by its nature."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(octets, PKCS1v15(), SHA256())
        return self.private.sign(hashlib.sha256(octets).digest())


def signatures(content: bytes, keys: Sequence[SigningKey], *, now: datetime) -> bytes:
    """DKIM-Signature fields to put in front of the content, one per key. `content` is in canonical CRLF form."""
    head, body = _split(content)
    return _signatures(head, hashlib.sha256(canonical_body(body)).digest(), keys, now)


def large_signatures(pieces: Iterator[bytes], keys: Sequence[SigningKey], *, now: datetime) -> bytes:
    """The same of a content that is read piece by piece."""
    start = b""
    while b"\r\n\r\n" not in start and (piece := next(pieces, b"")):
        start += piece
    head, body = _parted(start)
    return _signatures(head, large_body_hash(chain([body], pieces)), keys, now)


def large_body_hash(pieces: Iterable[bytes]) -> bytes:
    """SHA-256 of the relaxed form of a body: whole lines at a time, and empty ones only once another follows them."""
    digest, rest, ends, is_empty = hashlib.sha256(), b"", b"", True
    for piece in chain(pieces, [b""]):
        text = rest + piece
        if not piece and rest:
            text += b"\r\n"  # what ends early is ended as DATA ends it
        lines, found, rest = text.rpartition(b"\r\n")
        relaxed = _relaxed(lines + found)
        if said := relaxed.rstrip(b"\r\n"):
            digest.update(ends + said)
            ends, is_empty = relaxed[len(said) :], False
        else:
            ends += relaxed
    if not is_empty:
        digest.update(b"\r\n")
    return digest.digest()


def _signatures(head: bytes, body_hash: bytes, keys: Sequence[SigningKey], now: datetime) -> bytes:
    names, signed = _choose(head)
    told = base64.b64encode(body_hash).decode()
    stamp = int(now.timestamp())
    return b"".join(_signature(key, told, names, signed, stamp) for key in keys)


def _signature(key: SigningKey, body_hash: str, names: list[str], signed: bytes, stamp: int) -> bytes:
    tags = [
        f"v=1; a={key.algorithm}; c=relaxed/relaxed; d={key.domain};",
        f"s={key.selector}; t={stamp};",
        *_fold(f"h={':'.join(names)};"),
        f"bh={body_hash};",
        "b=",
    ]
    field = ("DKIM-Signature: " + "\r\n ".join(tags)).encode()
    # RFC 6376 section 3.7: the signature covers its own field, with b= empty and without the last CRLF.
    name, _, value = field.partition(b":")
    made = base64.b64encode(key.sign(signed + canonical_field(name, value)[:-2])).decode()
    lines = [made[at : at + _LINE] for at in range(0, len(made), _LINE)]
    return field + "\r\n ".join(lines).encode() + b"\r\n"


def _fold(tag: str) -> list[str]:
    """The h= tag in lines: white space may stand round its colons (RFC 6376 section 3.5)."""
    lines = [""]
    for word in re.findall(r"[^:]+:?", tag):
        if len(lines[-1]) + len(word) > _LINE:
            lines.append("")
        lines[-1] += word
    return lines


def _split(content: bytes) -> tuple[bytes, bytes]:
    """Header with its last CRLF, and body. What ends early is ended as DATA ends it (worker/envelope.py)."""
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    return _parted(content)


def _parted(content: bytes) -> tuple[bytes, bytes]:
    if content.startswith(b"\r\n"):
        return b"", content[2:]
    head, _, body = content.partition(b"\r\n\r\n")
    return head.removesuffix(b"\r\n") + b"\r\n", body


def _choose(head: bytes) -> tuple[list[str], bytes]:
    """Names for h=, and the octets they stand for: of several fields of a name the last comes first (section 5.4.2)."""
    fields: dict[str, list[bytes]] = {}
    for name, value in _FIELD.findall(head):
        fields.setdefault(name.decode().lower(), []).append(canonical_field(name, value))
    names: list[str] = []
    signed: list[bytes] = []
    for name in (*_SEALED, *_SIGNED):
        found = fields.get(name, [])
        names += [name] * (len(found) + (name in _SEALED))
        signed += reversed(found)
    return names, b"".join(signed)


def canonical_field(name: bytes, value: bytes) -> bytes:
    """Relaxed form of a header field, with its CRLF (RFC 6376 section 3.4.2)."""
    unfolded = _BLANKS.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.lower() + b":" + unfolded + b"\r\n"


def canonical_body(body: bytes) -> bytes:
    """Relaxed form of a body (RFC 6376 section 3.4.4). Base64 and most text are in it already."""
    body = _relaxed(body)
    if body.endswith(b"\r\n\r\n") or body == b"\r\n":
        body = body.rstrip(b"\r\n") + b"\r\n"
    return b"" if body == b"\r\n" else body


def _relaxed(lines: bytes) -> bytes:
    if b"  " in lines or b"\t" in lines or b" \r\n" in lines:
        return _BLANKS.sub(b" ", _FINAL_BLANKS.sub(b"\r\n", lines))
    return lines
