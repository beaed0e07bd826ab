"""The arguments of MAIL and RCPT (RFC 5321 sections 4.1.1.2 and 4.1.1.3, RFC 6531 section 3.3): pure, strict."""

import re
from dataclasses import dataclass
from functools import lru_cache

from smtp.replies import Refused

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a1-\U0010ffff]+"
_QUOTED = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u00a1-\U0010ffff]|\\[\x20-\x7e])*"'
_LOCAL = rf"(?:{_ATOM}(?:\.{_ATOM})*|{_QUOTED})"
_DOMAIN = r"[A-Za-z0-9_.\-\u00a1-\U0010ffff]+"
# A source route (`@one,@two:`) MUST be taken and SHOULD be ignored: RFC 5321 section 4.1.2, A-d-l.
_PATH = re.compile(rf" *<(?:@[^<>\":]*:)?(?P<address>(?P<local>{_LOCAL})@(?P<domain>{_DOMAIN}))>")
_NULL = re.compile(r" *<>")
_MAILBOX = re.compile(rf"(?P<local>{_LOCAL})@(?P<domain>{_DOMAIN})")

_KNOWN = 1024  # arguments whose meaning is kept: programs send from one address, and often to the same
_MAX_LOCAL, _MAX_PATH = 64, 254  # octets: RFC 5321 sections 4.5.3.1.1 and 4.5.3.1.3 less the brackets


@dataclass(frozen=True, slots=True)
class MailArgument:
    """MAIL FROM: the reverse-path ('' is the null one), the size the client announces, and whether it asks UTF-8."""

    reverse_path: str
    size: int
    smtputf8: bool


@lru_cache(maxsize=_KNOWN)
def parse_mail(argument: str) -> MailArgument:
    """Read what follows MAIL; raises Refused."""
    address, rest = _path(argument, "FROM:", null=True)
    parameters = _parameters(rest)
    size = parameters.pop("SIZE", "0")
    if not size.isdecimal() or len(size) > 20:  # noqa: PLR2004  (RFC 1870 section 4: up to 20 digits)
        raise Refused(501, "5.5.4", "SIZE takes a number")
    if parameters.pop("BODY", "7BIT").upper() not in {"7BIT", "8BITMIME"}:
        raise Refused(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
    smtputf8 = parameters.pop("SMTPUTF8", None)
    if smtputf8:
        raise Refused(501, "5.5.4", "SMTPUTF8 takes no value")
    parameters.pop("AUTH", None)  # RFC 4954 section 5: must be understood; we vouch for nobody, so it is left aside
    if parameters:
        raise Refused(555, "5.5.4", "Parameter not implemented")
    _check_ascii(address, allowed=smtputf8 is not None)
    return MailArgument(address, int(size), smtputf8 is not None)


@lru_cache(maxsize=_KNOWN)
def parse_rcpt(argument: str, *, smtputf8: bool) -> str:
    """Read what follows RCPT: the forward-path; raises Refused."""
    address, rest = _path(argument, "TO:", null=False)
    if rest and _parameters(rest):
        raise Refused(555, "5.5.4", "Parameter not implemented")
    _check_ascii(address, allowed=smtputf8)
    return address


@lru_cache(maxsize=_KNOWN)
def a_label(domain: str) -> str:
    """The lower-case ASCII form of a domain name (RFC 5890), the one that lanes and policy use; raises ValueError."""
    name = domain.lower()
    if not name.isascii():
        name = name.encode("idna").decode()
    labels = name.split(".")
    if len(name) > 253 or not all(  # noqa: PLR2004  (RFC 1035 section 2.3.4, in text form)
        0 < len(label) < 64 and label[0] != "-" and label[-1] != "-"  # noqa: PLR2004
        for label in labels
    ):
        raise ValueError("not a domain name")
    return name


def domain_of(mailbox: str) -> str:
    """The domain of a bare address, as an A-label; raises ValueError when it is none, or longer than a path may be."""
    if len(mailbox) > _MAX_PATH:  # before the cache, which keeps what it is given
        raise ValueError("address too long")
    return _domain_of(mailbox)


@lru_cache(maxsize=_KNOWN)
def _domain_of(mailbox: str) -> str:
    found = _MAILBOX.fullmatch(mailbox)
    if not found or _is_too_long(found):
        raise ValueError("not a mailbox")
    return a_label(found["domain"])


def _path(argument: str, keyword: str, *, null: bool) -> tuple[str, str]:
    if argument[: len(keyword)].upper() != keyword:
        raise Refused(501, "5.5.4", f"Syntax: {keyword}<address>")
    if null and (found := _NULL.match(argument, len(keyword))):
        return "", argument[found.end() :]
    found = _PATH.match(argument, len(keyword))
    if not found:
        raise Refused(553, "5.1.3", "Not a mailbox in angle brackets")
    try:
        a_label(found["domain"])
    except ValueError:  # UnicodeError of the IDNA codec is one
        raise Refused(553, "5.1.2", "Not a domain name") from None
    if _is_too_long(found):
        raise Refused(553, "5.1.3", "Address too long")
    return found["address"], argument[found.end() :]


def _is_too_long(found: re.Match[str]) -> bool:
    local, domain = len(found["local"].encode()), len(found["domain"].encode())
    return local > _MAX_LOCAL or local + 1 + domain > _MAX_PATH


def _parameters(rest: str) -> dict[str, str]:
    """ESMTP parameters by upper-case keyword; a keyword without value has ''."""
    if rest and not rest.startswith(" "):
        raise Refused(501, "5.5.4", "Text after the address")
    parameters: dict[str, str] = {}
    for word in rest.split():
        keyword, equals, value = word.partition("=")
        if not keyword.replace("-", "").isalnum() or (equals and not value) or keyword.upper() in parameters:
            raise Refused(501, "5.5.4", "Malformed parameter")
        parameters[keyword.upper()] = value
    return parameters


def _check_ascii(address: str, *, allowed: bool) -> None:
    if not allowed and not address.isascii():
        raise Refused(553, "5.6.7", "Non-ASCII address without SMTPUTF8")  # RFC 6531 section 3.5
