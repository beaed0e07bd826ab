"""What emails are searched by, as conditions on the tables; each has an index, save the words of a subject. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from history.tables import TAGGED, emails, recipients
from outbox.states import LastEvent


@dataclass(frozen=True, slots=True)
class Search:
    """Everything that is given must hold. Nothing given: all emails."""

    recipient: str | None = None  # address of one of its recipients
    domain: str | None = None  # of one of its recipients
    sender: str | None = None  # envelope address
    subject: str | None = None  # words in it, in any case
    status: LastEvent | None = None
    tag: tuple[str, str | None] | None = None  # name, and value if it matters
    since: datetime | None = None
    until: datetime | None = None  # not included


def conditions(search: Search, dialect: str) -> list[sa.ColumnElement[bool]]:
    """The conditions on `emails`."""
    found: list[sa.ColumnElement[bool]] = []
    if search.recipient is not None:
        found.append(_has_recipient(recipients.c.address.in_(_spellings(search.recipient))))
    if search.domain is not None:
        found.append(_has_recipient(recipients.c.domain == search.domain.lower()))
    if search.sender is not None:
        found.append(emails.c.reverse_path.in_(_spellings(search.sender)))
    if search.subject is not None:
        found.append(sa.func.lower(emails.c.subject).contains(search.subject.lower(), autoescape=True))
    if search.status is not None:
        found.append(emails.c.last_event == search.status.value)
    if search.tag is not None:
        found.append(_has_tag(*search.tag, dialect))
    if search.since is not None:
        found.append(emails.c.created_at >= search.since)
    if search.until is not None:
        found.append(emails.c.created_at < search.until)
    return found


def _has_recipient(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return emails.c.id.in_(sa.select(recipients.c.email_id).where(condition))


def _spellings(address: str) -> list[str]:
    """As it is stored: the domain in lower case, the local part as it came (RFC 5321 section 2.4)."""
    local, at, domain = address.rpartition("@")
    return sorted({f"{local}{at}{domain.lower()}", address.lower()})


def _has_tag(name: str, value: str | None, dialect: str) -> sa.ColumnElement[bool]:
    pair = [name] if value is None else [name, value]
    if dialect == "postgresql":
        tags = sa.cast(emails.c.tags, postgresql.JSONB)
        each = sa.func.jsonb_array_elements(tags).table_valued(sa.column("value", postgresql.JSONB), name="tag")
        words = [each.c.value[place].astext for place in range(len(pair))]
        # The index knows which words are there, and not which of them is the name.
        return sa.and_(sa.text(TAGGED), tags.contains([pair]), _exists(each, words, pair))
    each = sa.func.json_each(emails.c.tags).table_valued("value", name="tag")
    return _exists(each, [sa.func.json_extract(each.c.value, f"$[{place}]") for place in range(len(pair))], pair)


def _exists(
    each: sa.TableValuedAlias, found: Sequence[sa.ColumnElement[str]], wanted: Sequence[str]
) -> sa.ColumnElement[bool]:
    same = [one == word for one, word in zip(found, wanted, strict=True)]
    return sa.exists(sa.select(sa.literal(1)).select_from(each).where(*same))
