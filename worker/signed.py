"""What the sender's domain adds to a mail on its way out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signed:
    """Signatures to put in front of the content, and how it is to travel."""

    signatures: bytes = b""
    tls_enforced: bool = False
    return_path_domain: str = ""  # where bounces go; empty: to the message's own reverse-path


PLAIN = Signed()
