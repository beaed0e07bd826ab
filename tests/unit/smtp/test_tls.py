import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from runtime.settings import Settings
from smtp.tls import self_signed, server_context
from tests.unit.smtp.dialogue import Dialogue, Place

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def names(path: Path) -> list[str]:
    extensions = x509.load_pem_x509_certificate(path.read_bytes()).extensions
    found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]


def test_a_certificate_is_made_once_and_kept(tmp_path: Path):
    """The second start finds the first one's certificate; its key is for the owner alone."""
    certificate, key = self_signed(tmp_path / "tls", hostname="mail.example", now=NOW)
    first = certificate.read_bytes()
    assert names(certificate) == ["mail.example", "localhost", "127.0.0.1"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert self_signed(tmp_path / "tls", hostname="mail.example", now=NOW + timedelta(days=300))[0] == certificate
    assert certificate.read_bytes() == first


@pytest.mark.parametrize("change", ["expired", "renamed", "mixed", "torn", "missing"])
def test_a_certificate_that_does_not_serve_is_made_anew(tmp_path: Path, change: str):
    """Near its end, for another name, or damaged: a new pair takes its place."""
    certificate, key = self_signed(tmp_path, hostname="mail.example", now=NOW)
    first = certificate.read_bytes()
    hostname, now = "mail.example", NOW
    if change == "expired":
        now += timedelta(days=340)
    elif change == "renamed":
        hostname = "other.example"
    elif change == "mixed":
        _, other = self_signed(tmp_path / "other", hostname="mail.example", now=NOW)
        key.write_bytes(other.read_bytes())
    elif change == "torn":
        key.write_bytes(key.read_bytes()[:50])
    else:
        key.unlink()
    self_signed(tmp_path, hostname=hostname, now=now)
    assert certificate.read_bytes() != first
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)


def test_the_operators_certificate_is_used(tmp_path: Path):
    """With tls_cert and tls_key set nothing is made; a file that is not there is an error at start."""
    certificate, key = self_signed(tmp_path / "theirs", hostname="mail.example", now=NOW)
    settings = Settings(data_dir=tmp_path / "data", tls_cert=certificate, tls_key=key)
    assert server_context(settings, now=NOW).minimum_version is ssl.TLSVersion.TLSv1_2
    assert not (tmp_path / "data").exists()
    with pytest.raises(OSError):
        server_context(settings.model_copy(update={"tls_key": tmp_path / "missing"}), now=NOW)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_refused(place: Place):
    """TLS 1.1 finds no agreement with us (RFC 8997)."""
    old = place.trust
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises(OSError):
        await Dialogue.open(place.server.smtps_port, tls=old)
