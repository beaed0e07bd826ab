from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from ssl import PROTOCOL_TLS_SERVER, SSLContext, create_default_context

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from worker.session import Opener, TlsContexts
from worker.timeouts import Timeouts

QUICK = Timeouts(connect=5, tls=5, greeting=5, hello=5, auth=5, mail=5, rcpt=5, data=5, block=5, dot=5)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for `localhost` and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture(scope="session")
def server_tls(certificate):
    """For a server on localhost."""
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(scope="session")
def trusting(certificate):
    """Contexts of a client that trusts the certificate."""
    default = TlsContexts.default()
    return TlsContexts(create_default_context(cafile=str(certificate)), default.opportunistic)


@pytest.fixture(scope="session")
def opener(trusting):
    """Opens sessions, with timeouts for tests."""
    return Opener("client.test", tls=trusting, timeouts=QUICK)
