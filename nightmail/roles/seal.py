"""What a process asks before it starts that uses DKIM keys or signing secrets of webhooks: the key that opens them."""

from nightmail.complaint import Complaint
from runtime.sealing import FILE, Seal
from runtime.settings import Settings


def demand_seal(settings: Settings) -> Seal:
    """The seal. Raises Complaint when its key is malformed, or missing where domains must be verified to send."""
    try:
        seal = Seal.from_settings(settings)
    except ValueError as error:
        raise Complaint(str(error)) from None
    if settings.verified_domains_only and not seal.has_key:
        raise Complaint(
            f"NIGHTMAIL_POLICY_KEY is not set and {settings.data_dir / FILE} does not exist: the DKIM keys of "
            "sending domains could be neither made nor used. Give every node the same one (`openssl rand -hex 32`)."
        )
    return seal
