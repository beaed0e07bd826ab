"""What a permanent failure is called in Resend's words, which are Amazon's. Pure."""

_EXPIRED = "4.4.7"
# RFC 3463 subject and detail -> type and sub-type of a bounce.
_NAMED = {
    "2.2": ("Transient", "MailboxFull"),
    "2.3": ("Transient", "MessageTooLarge"),
    "3.4": ("Transient", "MessageTooLarge"),
    "6.0": ("Transient", "ContentRejected"),
    "7.1": ("Permanent", "General"),
}


def bounce_of(status: str) -> tuple[str, str]:
    """Type and sub-type of a bounce with this enhanced status code (RFC 3463)."""
    kind = "Transient" if status == _EXPIRED else "Permanent" if status.startswith("5") else "Undetermined"
    return _NAMED.get(status.partition(".")[2], (kind, "General"))
