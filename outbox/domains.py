"""Which domain names are reserved, so that mail to them can never arrive: pure, asked by HTTP and SMTP alike."""

# RFC 2606 sections 2 and 3, RFC 6761 section 6: top-level names and second-level names set aside for ever.
_RESERVED = frozenset({"test", "example", "invalid", "localhost", "example.com", "example.net", "example.org"})


def is_reserved(domain: str) -> bool:
    """Whether `domain` is one of the reserved names or lies below one. Case and a final dot do not matter."""
    labels = domain.lower().rstrip(".").split(".")
    return labels[-1] in _RESERVED or ".".join(labels[-2:]) in _RESERVED
