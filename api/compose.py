"""From a request to a message: every rule on what may be sent, then the octets.

Synchronous and without stores, so that a large request can be composed in a thread.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import Any

from api import attachments, custom_headers
from api.addresses import Address, parse, parse_all, too_many
from api.errors import ApiError, invalid, missing
from api.filling import filled
from api.request import EmailRequest, TagRequest, read_email
from api.scheduling import parse_scheduled_at
from outbox.domains import is_reserved
from outbox.entry import Submission
from outbox.header_text import Unrenderable, has_control
from outbox.message import Message, Recipient, RecipientKind
from outbox.policy import ApiKey, Policy
from outbox.render import Draft, Rendered, render
from outbox.tracking import Tracked, Tracking
from runtime.settings import Settings

_MOST_TAGS = 75
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_LONGEST_SUBJECT = 8192

Named = dict[RecipientKind, tuple[Address, ...]]
_mailbox, _written, _address = map(attrgetter, ("mailbox", "written", "address"))


class Composer:
    """Applies the rules of this server to requests, with the policy of the moment."""

    def __init__(self, settings: Settings, policy: Policy, tracking: Tracking, *, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._policy = policy
        self._tracking = tracking
        self.now = now

    @property
    def tracks(self) -> bool:
        """Whether some mail gets its links replaced, which takes as long as all the rest of it."""
        return self._policy.tracks

    def read(self, item: Any) -> EmailRequest:
        """The shape of one message, with the words of the template it names. Raises ApiError."""
        return read_email(filled(item, self._policy))

    def compose(self, request: EmailRequest, key: ApiKey, *, message_id: str, now: datetime) -> Submission:
        """The message under its id, with its octets. All that can be said against it is said here, as ApiError."""
        _refuse_unsupported(request)
        _require_body(request)
        sender = parse(request.sender, field="from")
        named = self._recipients(request)
        self._authorise(sender.domain, key)
        draft = self._draft(request, sender, named)
        tags = _tags(request.tags)
        scheduled_at = self._scheduled_at(request.scheduled_at, now)
        draft = self._tracked(draft, sender.domain, message_id, now)
        message_id_header = f"<{message_id}@{self._settings.smtp_hostname}>"
        rendered = self._render(draft, message_id_header, now)
        recipients = _envelope(named)
        envelope = "".join([sender.mailbox.address, *map(_address, recipients)])
        message = Message(
            id=message_id,
            created_at=now,
            via="http",
            key_id=key.id,
            reverse_path=sender.mailbox.address,
            recipients=recipients,
            sender=request.sender,
            to=tuple(map(_written, named["to"])),
            cc=tuple(map(_written, named["cc"])),
            bcc=tuple(map(_written, named["bcc"])),
            reply_to=_as_tuple(request.reply_to),
            subject=draft.subject,
            tags=tags,
            message_id_header=message_id_header,
            from_domain=sender.domain,
            scheduled_at=scheduled_at,
            size=len(rendered.content),
            text_derived=rendered.text_derived,
            smtputf8=rendered.smtputf8 or not envelope.isascii(),
        )
        return Submission(message, rendered.content)

    def _draft(self, request: EmailRequest, sender: Address, named: Named) -> Draft:
        return Draft(
            sender=sender.mailbox,
            to=tuple(map(_mailbox, named["to"])),
            cc=tuple(map(_mailbox, named["cc"])),
            reply_to=tuple(map(_mailbox, self._reply_to(request))),
            subject=_subject(request.subject),
            html=request.html or None,
            text=request.text,
            headers=custom_headers.read_all(request.headers),
            attachments=attachments.read_all(request.attachments),
        )

    def _tracked(self, draft: Draft, sender: str, message_id: str, now: datetime) -> Draft:
        """With links and image of ours, if the sender's domain wants that. Unsubscribing needs none of our machines."""
        domain = self._policy.get("domain", sender) if self.tracks else None
        if domain is None or draft.html is None:
            return draft
        unsubscribe = " ".join(value for name, value in draft.headers if name.lower() == "list-unsubscribe")
        html = self._tracking.track(draft.html, domain, Tracked(message_id, now), except_for=unsubscribe)
        return draft if html is None else replace(draft, tracked_html=html)

    def _render(self, draft: Draft, message_id_header: str, now: datetime) -> Rendered:
        try:
            rendered = render(draft, message_id=message_id_header, date=now)
        except Unrenderable as reason:
            raise invalid(str(reason)) from reason
        if len(rendered.content) > self._settings.max_message_bytes:
            raise invalid(f"The email is larger than {self._settings.max_message_bytes} bytes.")
        return rendered

    def scheduled_at(self, written: str) -> datetime:
        """The instant that a change of schedule asks for. Raises ApiError."""
        return parse_scheduled_at(written, now=self.now(), horizon=self._settings.schedule_horizon)

    def _scheduled_at(self, written: str | None, now: datetime) -> datetime | None:
        if not written:
            return None
        at = parse_scheduled_at(written, now=now, horizon=self._settings.schedule_horizon)
        return at if at > now else None

    def _recipients(self, request: EmailRequest) -> Named:
        most = self._settings.max_recipients
        named: Named = {
            "to": parse_all(request.to, field="to", most=most),
            "cc": parse_all(request.cc, field="cc", most=most),
            "bcc": parse_all(request.bcc, field="bcc", most=most),
        }
        if not named["to"]:
            raise missing("to")
        if sum(map(len, named.values())) > most:
            raise too_many("to", most)
        if self._settings.refuse_reserved_recipients:
            for field, addresses in named.items():
                _refuse_reserved(field, addresses)
        return named

    def _reply_to(self, request: EmailRequest) -> tuple[Address, ...]:
        return parse_all(request.reply_to, field="reply_to", most=self._settings.max_recipients)

    def _authorise(self, domain: str, key: ApiKey) -> None:
        if key.domain and key.domain.lower() != domain:
            raise invalid(f"This API key is not authorized to send emails from {domain}", status=403)
        if not self._policy.may_send_from(domain):
            raise invalid(f"The {domain} domain is not verified. Please, add and verify your domain", status=403)


def _refuse_unsupported(request: EmailRequest) -> None:
    if request.topic_id is not None:
        raise invalid("Invalid `topic_id` field. Topics are not supported yet.")


def _require_body(request: EmailRequest) -> None:
    if not request.html and not request.text:
        raise ApiError(422, "missing_required_field", "Missing `html` or `text` field.")


def _subject(subject: str) -> str:
    if not subject.strip():
        raise missing("subject")
    if has_control(subject) or len(subject) > _LONGEST_SUBJECT:
        raise invalid("Invalid `subject` field. It has a line break or another control character, or is too long.")
    return subject.strip()


def _tags(tags: list[TagRequest] | None) -> tuple[tuple[str, str], ...]:
    if not tags:
        return ()
    found = tuple([(tag.name, tag.value) for tag in tags])
    if len(found) > _MOST_TAGS:
        raise invalid(f"Invalid `tags` field. There are more than {_MOST_TAGS}.")
    if not all(_TAG.fullmatch(word) for tag in found for word in tag):
        raise invalid("Tags should only contain ASCII letters, numbers, underscores, or dashes.")
    return found


def _refuse_reserved(field: str, addresses: tuple[Address, ...]) -> None:
    if any(is_reserved(address.domain) for address in addresses):
        raise invalid(
            f"Invalid `{field}` field. Please use our testing email address instead of domains like `example.com`. "
            "See our documentation for more information."
        )


def _envelope(named: Named) -> tuple[Recipient, ...]:
    """Everyone once, under the first field that names them, so that nobody gets two copies."""
    first: dict[str, Recipient] = {}
    for kind, addresses in named.items():
        for address in addresses:
            first.setdefault(address.mailbox.address, Recipient(address.mailbox.address, kind))
    return tuple(first.values())


def _as_tuple(value: str | list[str] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)
