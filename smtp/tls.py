"""The TLS of the SMTP ports: the operator's certificate, or a self-signed one that is made once and kept."""

import fcntl
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.settings import Settings

_LIFE = timedelta(days=365)
_RENEW_BEFORE = timedelta(days=30)
_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def server_context(settings: Settings, *, now: datetime) -> ssl.SSLContext:
    """The context of both ports, TLS 1.2 or newer (RFC 8997).

    Raises OSError or ssl.SSLError when the configured certificate cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None or key is None:
        certificate, key = self_signed(settings.data_dir / "tls", hostname=settings.smtp_hostname, now=now)
    context.load_cert_chain(certificate, key)
    return context


def self_signed(folder: Path, *, hostname: str, now: datetime) -> tuple[Path, Path]:
    """Certificate and key files in `folder`, made when missing, for another name, or about to expire."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate, key = folder / "smtp.crt", folder / "smtp.key"
    with _locked(folder / "lock"):
        if not _serves(certificate, key, hostname=hostname, now=now):
            _make(certificate, key, hostname=hostname, now=now)
    return certificate, key


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: several listeners of a machine start together and share the folder."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _serves(certificate: Path, key: Path, *, hostname: str, now: datetime) -> bool:
    try:
        kept = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError):
        return False
    names = kept.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        _public(kept.public_key()) == _public(private.public_key())  # a crash between two writes leaves a mixed pair
        and hostname in names.get_values_for_type(x509.DNSName)
        and now < kept.not_valid_after_utc - _RENEW_BEFORE
    )


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _make(certificate: Path, key: Path, *, hostname: str, now: datetime) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    signed = _certificate(private, hostname=hostname, now=now).public_bytes(Encoding.PEM)
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(key, secret, mode=0o600)
    _write(certificate, signed, mode=0o644)


def _certificate(private: ec.EllipticCurvePrivateKey, *, hostname: str, now: datetime) -> x509.Certificate:
    """A certificate that is its own authority, with all that RFC 5280 asks, so that a strict client can trust it."""
    public = private.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    names = [x509.DNSName(dns) for dns in dict.fromkeys((hostname, "localhost"))]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([*names, x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )


def _write(path: Path, octets: bytes, *, mode: int) -> None:
    """Write beside and rename, so that nobody ever reads half a file, with its mode from the first octet on."""
    beside = path.with_suffix(f".{os.getpid()}")
    beside.unlink(missing_ok=True)
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(file, "wb") as stream:
        stream.write(octets)
    beside.replace(path)
