"""Processor time of DKIM signatures per mail: ours, and dkimpy's for comparison.

python -m bench.signing
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import click
import dkim
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from worker.dkim import SigningKey, signatures

NOW = datetime(2026, 11, 21, tzinfo=UTC)
HEAD = (
    b"From: Ann <ann@ours.test>\r\nTo: bob@one.test\r\nSubject: A subject\r\nDate: Sat, 21 Nov 2026 20:00:00 +0000\r\n"
    b"Message-ID: <1@ours.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
)
LINE = b"Some words of a line that is about as long as lines are.\r\n"
SIZES = {"2 KB": 30, "100 KB": 1_700, "5 MB": 85_000}  # lines


def cpu_ms(work: Callable[[], object], *, seconds: float = 1.0) -> float:
    """Milliseconds of processor for one call, over about so many seconds."""
    count, begun = 0, time.process_time()
    while time.process_time() - begun < seconds:
        work()
        count += 1
    return (time.process_time() - begun) / count * 1000


def main() -> None:
    """Print the table."""
    rsa = generate_private_key(65537, 2048)
    keys = [SigningKey("ours.test", "s", rsa), SigningKey("ours.test", "s", Ed25519PrivateKey.generate())]
    for size, lines in SIZES.items():
        content = HEAD + LINE * lines
        for name, chosen in (("rsa", keys[:1]), ("ed25519", keys[1:]), ("both", keys)):
            click.echo(f"{size:>7}  ours    {name:<8} {cpu_ms(partial(signatures, content, chosen, now=NOW)):8.3f} ms")
    click.echo(f"   2 KB  dkimpy  rsa      {cpu_ms(_dkimpy(rsa)):8.3f} ms")


def _dkimpy(private: RSAPrivateKey) -> Callable[[], object]:
    pem = private.private_bytes(form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption())
    content = HEAD + LINE * SIZES["2 KB"]
    return lambda: dkim.sign(content, b"s", b"ours.test", pem, canonicalize=(b"relaxed", b"relaxed"))


if __name__ == "__main__":
    main()
