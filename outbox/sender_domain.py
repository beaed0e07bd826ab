"""A domain that mail is sent from: its keys, the DNS records it needs, and what was found of them. Pure.

Its life by record: not_started, pending after somebody asked to verify, verified once seen. A verified record that is
gone is a temporary_failure, with three days to come back; a pending one that does not come in three days has failed.
A resolver that does not answer changes nothing: can't tell is not "gone".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

from outbox.dkim_key import Algorithm, DkimKey
from runtime.clock import from_ms, to_ms
from runtime.settings import Settings

PATIENCE = timedelta(hours=72)
OVERLAP = timedelta(days=7)  # how long a replaced key stays published: longer than any of its mails is under way


class Status(StrEnum):
    """Of a record and of a domain, in Resend's words; the partial ones are of domains only."""

    NOT_STARTED = "not_started"
    PENDING = "pending"
    VERIFIED = "verified"
    FAILED = "failed"
    TEMPORARY_FAILURE = "temporary_failure"
    PARTIALLY_VERIFIED = "partially_verified"
    PARTIALLY_FAILED = "partially_failed"


class Found(Enum):
    """What the DNS says of a record."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """What is known of one record; `since` is when a verified one was first missed."""

    status: Status = Status.NOT_STARTED
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One DNS record to publish. `name` is relative to the domain, @ is the domain itself."""

    purpose: str  # what it serves: spf, bounces, tracking, or an algorithm of DKIM
    name: str
    type: str
    value: str
    status: Status
    priority: int | None = None

    @property
    def key(self) -> str:
        """Its name among the checks of the domain."""
        return f"{self.type} {self.name}"

    def shown(self) -> dict[str, Any]:
        """In Resend's form."""
        shown = {
            "record": "Tracking" if self.purpose == "tracking" else "DKIM" if "_domainkey" in self.name else "SPF",
            "name": self.name,
            "type": self.type,
            "ttl": "Auto",
            "status": self.status,
            "value": self.value,
        }
        return shown if self.priority is None else shown | {"priority": self.priority}

    def full_name(self, domain: str) -> str:
        """The whole name in the DNS."""
        return domain if self.name == "@" else f"{self.name}.{domain}"


# What a TXT record at `_dmarc` may begin with (RFC 7489): receivers look, and treat the mail as they would anyway.
# Advice, no record that is waited for: a stricter policy may stand there already.
DMARC = "v=DMARC1; p=none;"


@dataclass(frozen=True, slots=True)
class Hosts:
    """What the records say of this installation."""

    spf: str  # the mechanisms
    bounce_host: str
    tracking_host: str = ""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """From NIGHTMAIL_SPF_MECHANISMS, NIGHTMAIL_BOUNCE_HOST and NIGHTMAIL_TRACKING_HOST."""
        spf = settings.spf_mechanisms.strip() or f"a:{settings.smtp_hostname}"
        return cls(spf, settings.bounce_host.strip(), settings.tracking_host.strip() or _name_of(settings.public_url))


@dataclass(frozen=True, slots=True)
class SenderDomain:
    """As stored. `allowed` is the operator's own word, which stands above the DNS."""

    id: str
    name: str
    created_at: datetime
    region: str = "us-east-1"
    return_path: str = "send"
    tls: str = "opportunistic"
    keys: tuple[DkimKey, ...] = ()
    checks: Mapping[str, Check] | None = None
    asked_at: datetime | None = None
    allowed: bool | None = None
    open_tracking: bool = False
    click_tracking: bool = False
    tracking_subdomain: str = ""

    def check(self, key: str) -> Check:
        """What is known of a record."""
        return (self.checks or {}).get(key, Check())

    def records(self, hosts: Hosts) -> tuple[Record, ...]:
        """Everything to publish: SPF (RFC 7208), where bounces go, each DKIM key, and where tracked links lead."""
        place = self.return_path if hosts.bounce_host else "@"
        wanted: list[tuple[str, str, str, str, int | None]]
        wanted = [("bounces", place, "MX", hosts.bounce_host, 10)] if hosts.bounce_host else []
        wanted.append(("spf", place, "TXT", f"v=spf1 {hosts.spf} ~all", None))
        wanted += [(key.algorithm, f"{key.selector}._domainkey", "TXT", key.record, None) for key in self.keys]
        if self.tracking_subdomain and hosts.tracking_host:
            wanted.append(("tracking", self.tracking_subdomain, "CNAME", hosts.tracking_host, None))
        return tuple(
            Record(purpose, name, kind, value, self.check(f"{kind} {name}").status, priority)
            for purpose, name, kind, value, priority in wanted
        )

    def status(self, hosts: Hosts) -> Status:
        """The whole in one word. The RSA key decides about sending: only the domain's owner can publish it."""
        by_purpose: dict[str, Status] = {}
        for record in self.records(hosts):
            found = by_purpose.get(record.purpose)
            by_purpose[record.purpose] = record.status if found is None else _better(found, record.status)
        rsa = by_purpose.get(Algorithm.RSA, Status.NOT_STARTED)
        if rsa is not Status.VERIFIED:
            return rsa
        others = set(by_purpose.values())
        if Status.FAILED in others:
            return Status.PARTIALLY_FAILED
        return Status.VERIFIED if others == {Status.VERIFIED} else Status.PARTIALLY_VERIFIED

    def may_send(self, hosts: Hosts) -> bool:
        """Whether mail from it is taken."""
        if self.allowed is not None:
            return self.allowed
        sendable = {Status.VERIFIED, Status.PARTIALLY_VERIFIED, Status.PARTIALLY_FAILED, Status.TEMPORARY_FAILURE}
        return self.status(hosts) in sendable

    def bounce_domain(self, hosts: Hosts) -> str:
        """The domain of the reverse-path, once its records were seen; empty: bounces go to the sender."""
        place = self.return_path
        seen = {self.check(f"{kind} {place}").status for kind in ("MX", "TXT")}
        return f"{place}.{self.name}" if hosts.bounce_host and seen == {Status.VERIFIED} else ""

    @property
    def tracking_host(self) -> str:
        """The domain's own name in tracked links, once its record was seen; empty: links lead to our own."""
        place = self.tracking_subdomain
        return f"{place}.{self.name}" if place and self.check(f"CNAME {place}").status in _IN_SERVICE else ""

    def signing_keys(self) -> tuple[DkimKey, ...]:
        """One key per algorithm: the newest that was seen in the DNS; before anything was seen, the newest."""
        usable = [key for key in self.keys if key.sealed]
        if any(key.seen_at for key in usable):
            usable = [key for key in usable if key.seen_at]
        return tuple({key.algorithm: key for key in usable}.values())

    def asked(self, hosts: Hosts, *, now: datetime) -> Self:
        """Somebody wants it verified. What is in service stays so: asking must not stop mail that flows."""
        checks = {
            record.key: self.check(record.key) if record.status in _IN_SERVICE else Check(Status.PENDING)
            for record in self.records(hosts)
        }
        return replace(self, checks=checks, asked_at=now)

    def rotated(self, fresh: Iterable[DkimKey], *, now: datetime) -> Self:
        """With new keys beside those that were seen, which sign on until the new ones are seen too."""
        fresh = tuple(fresh)
        checks = dict(self.checks or {}) | {_check_of(key): Check(Status.PENDING) for key in fresh}
        seen = (key for key in self.keys if key.seen_at)
        return replace(self, keys=(*seen, *fresh), checks=checks, asked_at=now)

    def judged(self, found: Mapping[str, Found], hosts: Hosts, *, now: datetime) -> Self:
        """After a look at the DNS. `found` is by `Record.key`; what it does not name stays as it is."""
        asked_at = self.asked_at or self.created_at
        records = self.records(hosts)
        checks = {r.key: _judge(self.check(r.key), found.get(r.key), asked_at=asked_at, now=now) for r in records}
        seen = (
            replace(key, seen_at=now) if not key.seen_at and checks[_check_of(key)].status is Status.VERIFIED else key
            for key in self.keys
        )
        return replace(self, checks=checks, keys=_without_replaced(tuple(seen), now=now))

    def to_dict(self, hosts: Hosts) -> dict[str, Any]:
        """The JSON form, with what may be read off it alone: `tracking_host`, `status`, `verified`."""
        return {
            "id": self.id,
            "name": self.name,
            "created_at": to_ms(self.created_at),
            "region": self.region,
            "return_path": self.return_path,
            "tls": self.tls,
            "keys": [key.to_dict() for key in self.keys],
            "checks": {
                name: [check.status, to_ms(check.since) if check.since else None]
                for name, check in (self.checks or {}).items()
            },
            "asked_at": to_ms(self.asked_at) if self.asked_at else None,
            "allowed": self.allowed,
            "open_tracking": self.open_tracking,
            "click_tracking": self.click_tracking,
            "tracking_subdomain": self.tracking_subdomain,
            "tracking_host": self.tracking_host,
            "status": self.status(hosts),
            "verified": self.may_send(hosts),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls(
            id=fields["id"],
            name=fields["name"],
            created_at=from_ms(fields["created_at"]),
            region=fields["region"],
            return_path=fields["return_path"],
            tls=fields["tls"],
            keys=tuple(map(DkimKey.from_dict, fields["keys"])),
            checks={
                name: Check(Status(status), from_ms(since) if since else None)
                for name, (status, since) in fields["checks"].items()
            },
            asked_at=from_ms(fields["asked_at"]) if fields["asked_at"] else None,
            allowed=fields.get("allowed"),
            open_tracking=fields.get("open_tracking", False),
            click_tracking=fields.get("click_tracking", False),
            tracking_subdomain=fields.get("tracking_subdomain", ""),
        )


def _name_of(url: str | None) -> str:
    """The host of a URL if it is a name, to which a CNAME may lead."""
    host = urlsplit(url or "").hostname or ""
    return "" if ":" in host or host.replace(".", "").isdigit() else host


def _check_of(key: DkimKey) -> str:
    return f"TXT {key.selector}._domainkey"


_IN_SERVICE = frozenset({Status.VERIFIED, Status.TEMPORARY_FAILURE})
_GOODNESS = (
    Status.NOT_STARTED,
    Status.FAILED,
    Status.PENDING,
    Status.TEMPORARY_FAILURE,
    Status.VERIFIED,
)


def _better(one: Status, other: Status) -> Status:
    """Of several keys for one purpose, the best one counts: that is what makes an overlap."""
    return max(one, other, key=_GOODNESS.index)


def _judge(check: Check, found: Found | None, *, asked_at: datetime, now: datetime) -> Check:
    if found is Found.YES:
        return Check(Status.VERIFIED)
    if found is not Found.NO:
        return check
    if check.status is Status.VERIFIED:
        return Check(Status.TEMPORARY_FAILURE, now)
    begun_at = check.since or asked_at
    waits = check.status in (Status.PENDING, Status.TEMPORARY_FAILURE)
    return Check(Status.FAILED) if waits and now - begun_at > PATIENCE else check


def _without_replaced(keys: tuple[DkimKey, ...], *, now: datetime) -> tuple[DkimKey, ...]:
    """A key that a newer one has replaced loses its private half at once, and leaves after the overlap."""
    replaced_at: dict[Algorithm, datetime] = {}
    kept: list[DkimKey] = []
    for key in reversed(keys):
        newer = replaced_at.get(key.algorithm)
        if newer is None:
            kept.append(key)
            if key.seen_at:
                replaced_at[key.algorithm] = key.seen_at
        elif now - newer < OVERLAP:
            kept.append(key.without_private())
    return tuple(reversed(kept))
