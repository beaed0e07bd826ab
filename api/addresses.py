"""Addresses as clients write them: `a@b.c` or `Name <a@b.c>`. Syntax only; nobody asks the DNS."""

import re
from collections.abc import Sequence
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

from api.errors import ApiError, invalid
from outbox.header_text import has_control
from outbox.render import Mailbox
from runtime.frozen import frozen

_LONGEST = 998
# What most addresses look like, at a twentieth of the price; whatever else there is goes to the library.
_ATOM = r"[A-Za-z0-9_+-]+"
_LABEL = r"(?=[A-Za-z0-9-]{1,63}\.)[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\."
_COMMON = re.compile(rf"(?=.{{6,254}}\Z)(?=[^@]{{1,64}}@)({_ATOM}(?:\.{_ATOM})*)@((?:{_LABEL})+[A-Za-z]{{2,63}})")


@frozen
class Address:
    """An address as written, as it stands in headers, and its domain as an A-label in lower case."""

    written: str
    mailbox: Mailbox
    domain: str


@lru_cache(maxsize=4096)
def parse(written: str, *, field: str) -> Address:
    """One address of `field`. Raises ApiError 422 in Resend's words."""
    name, address = _split(written)
    if len(written) > _LONGEST or has_control(written):
        raise _malformed(field)
    if common := _COMMON.fullmatch(address):
        domain = common[2].lower()
        return Address(written, Mailbox(name, f"{common[1]}@{domain}"), domain)
    try:
        found = validate_email(address, check_deliverability=False, globally_deliverable=False, strict=True)
    except (EmailNotValidError, ValueError) as wrong:
        raise _malformed(field) from wrong
    domain = str(found.ascii_domain).lower()
    if "." not in domain:
        raise _malformed(field)
    return Address(written, Mailbox(name, f"{found.local_part}@{domain}"), domain)


def parse_all(written: str | Sequence[str] | None, *, field: str, most: int) -> tuple[Address, ...]:
    """All addresses of `field`, at most `most`; none when it is absent."""
    if written is None:
        return ()
    several = [written] if isinstance(written, str) else written
    if len(several) > most:
        raise too_many(field, most)
    return tuple([parse(one, field=field) for one in several])


def parse_domain(written: str, *, field: str) -> str:
    """A domain name as an A-label in lower case. Raises ApiError 422."""
    try:
        return parse(f"x@{written.strip().removesuffix('.')}", field=field).domain
    except ApiError as wrong:
        raise invalid(f"Invalid `{field}` field. It must be a domain name such as `example.com`.") from wrong


def too_many(field: str, most: int) -> ApiError:
    """More addresses than a message may have."""
    return invalid(f"Invalid `{field}` field. The number of recipients may not exceed {most}.")


def _malformed(field: str) -> ApiError:
    return invalid(
        f"Invalid `{field}` field. The email address needs to follow the `email@example.com` or "
        "`Name <email@example.com>` format."
    )


def _split(written: str) -> tuple[str, str]:
    """(display name without its quotes, address)."""
    written = written.strip()
    if not written.endswith(">") or "<" not in written:
        return "", written
    name, _, address = written[:-1].rpartition("<")
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return name, address.strip()
