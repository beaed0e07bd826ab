"""From a batch of events, and what the tables hold of their messages, to the rows that change. Pure.

An event that cannot be read changes no row; it is kept as it is in `events` and named in `Changes.unreadable`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from history.moves import Row, email_row, move, note_outcome, recipient_rows
from history.tally import Tally, counted_as, domain_of
from outbox.events import Event, Fields
from outbox.message import Outcome
from outbox.states import ENDED, Reaction, State, last_event
from runtime.clock import from_ms

_ENVELOPE = ("kind", "at", "id")
Telling = tuple[str, ...]  # what an event tells, whatever its number
_STATES = {state.value: state for state in State}
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


@dataclass(slots=True)
class Known:
    """What the tables hold of the messages in a batch: whole recipient rows, the columns of emails that can change.

    `counts` are the rows of the hours of the batch.
    """

    emails: dict[str, Row] = field(default_factory=dict)
    recipients: dict[str, dict[int, Row]] = field(default_factory=dict)
    events: set[int] = field(default_factory=set)  # their numbers
    contents: set[str] = field(default_factory=set)  # the ids of the messages whose contents are there
    policy: dict[tuple[str, str], int] = field(default_factory=dict)  # the event that set each object
    counts: list[Row] = field(default_factory=list)
    told: dict[Telling, int] = field(default_factory=dict)  # the first event that told it, where one tells it again


@dataclass(slots=True)
class Changes:
    """The rows to write, by table: new ones, and changed ones. `changed_emails` carry only `id` and what can change."""

    emails: list[Row] = field(default_factory=list)
    changed_emails: list[Row] = field(default_factory=list)
    recipients: list[Row] = field(default_factory=list)
    changed_recipients: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    policy_objects: list[Row] = field(default_factory=list)
    changed_policy_objects: list[Row] = field(default_factory=list)
    counts: list[Row] = field(default_factory=list)
    changed_counts: list[Row] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)


def touched(events: Iterable[Event]) -> list[str]:
    """The ids of the messages that the events speak of."""
    return list({str(event.fields.get("id") or "") for event in events})


def telling(fields: Fields) -> Telling:
    """What a rebuild of the queue tells again under another number, in the same words."""
    return tuple(str(fields.get(name)) for name in (*_ENVELOPE, "delivery", "number"))


class Projection:
    """Folds events, in the order of their numbers, into the rows of `known`, and remembers which of them changed."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._changes = Changes()
        self._new: set[str] = set()
        self._changed: dict[str, None] = {}
        self._new_recipients: dict[tuple[str, int], Row] = {}
        self._moved: dict[tuple[str, int], Row] = {}  # none of them new
        self._new_policy: dict[tuple[str, str], Row] = {}
        self._changed_policy: dict[tuple[str, str], Row] = {}
        self._tally = Tally(known.counts)
        self._folds = {
            "accepted": self._accepted,
            "attempted": self._attempted,
            "released": self._released,
            "held": self._held,
            "redriven": self._released,  # held -> queued, as a release moves it
            "cancelled": self._cancelled,
            "rescheduled": self._rescheduled,
            "complained": self._complained,
            "opened": self._reacted,
            "clicked": self._reacted,
            "policy_changed": self._policy_changed,
        }

    def apply(self, event: Event, content: bytes | None = None) -> None:
        """Fold one event. `content` comes with `accepted`, as it lies in the queue."""
        fields = event.fields
        fold = self._folds.get(str(fields.get("kind")))
        try:
            at = from_ms(fields["at"])
            if fold is not None:
                fold(event.number, fields, at)
        except _UNREADABLE:
            self._changes.unreadable.append(event.number)
            self._keep(event.number, _unread_row(event))
            return
        if content is not None and (email_id := str(fields["id"])) not in self._known.contents:
            self._changes.contents[email_id] = content
        self._keep(event.number, _event_row(event, at))

    def _keep(self, number: int, row: Row) -> None:
        if number not in self._known.events:
            self._known.events.add(number)
            self._changes.events.append(row)

    def changes(self) -> Changes:
        """The rows to write, after the last event."""
        new, moved = self._new_recipients, self._moved
        for email_id in {email_id: None for email_id, _ in chain(new, moved)} | self._changed:
            self._conclude(email_id)
        self._changes.recipients = list(new.values())
        self._changes.changed_recipients = list(moved.values())
        self._changes.policy_objects = list(self._new_policy.values())
        self._changes.changed_policy_objects = list(self._changed_policy.values())
        self._changes.counts = self._tally.new()
        self._changes.changed_counts = self._tally.changed()
        return self._changes

    def _conclude(self, email_id: str) -> None:
        """Derive `last_event`, and put the message among the new or the changed ones if it is."""
        email = self._known.emails.get(email_id)
        if email is None:  # only its recipients are known: an older, torn backup
            return
        states = [row["state"] for row in self._known.recipients.get(email_id, {}).values()]
        word = last_event(states, complained=email["complained"], reaction=email["reaction"])
        changed = email_id in self._changed or word != email["last_event"]
        email["last_event"] = word
        if email_id in self._new:
            self._changes.emails.append(email)
        elif changed:
            self._changes.changed_emails.append(email)

    def _recipients(self, email_id: str) -> dict[int, Row]:
        return self._known.recipients.get(email_id, {})

    def _move(self, email_id: str, row: Row, state: State, *, number: int, at: datetime) -> None:
        if move(row, state, number=number, at=at):
            self._note_move(email_id, row)

    def _note_move(self, email_id: str, row: Row) -> None:
        place = email_id, row["idx"]
        if place not in self._new_recipients:
            self._moved[place] = row

    def _count(self, fields: Fields, amounts: Mapping[str, int], *, number: int, at: datetime) -> None:
        email = self._known.emails.get(fields["id"])
        is_retold = fields.get("restored") and self._known.told.get(telling(fields), number) < number
        if email is not None and not is_retold:
            self._tally.add(number, at, domain_of(email["reverse_path"]), amounts)

    def _accepted(self, number: int, fields: Fields, at: datetime) -> None:
        message, email_id = fields["message"], fields["id"]
        if message["id"] != email_id:
            raise ValueError("an event of one message carries another")
        email, rows = email_row(message, number), recipient_rows(message, number)
        if email_id not in self._known.emails:
            self._known.emails[email_id] = email
            self._new.add(email_id)
            self._changed[email_id] = None
        there = self._known.recipients.setdefault(email_id, {})
        for row in rows:
            if row["idx"] not in there:
                there[row["idx"]] = row
                self._new_recipients[email_id, row["idx"]] = row
        # The same message told by two events, as after a rebuild of the queue, is one. What waits for its time is sent
        # with the first attempt.
        held = self._known.emails[email_id]
        if held["scheduled_at"] is None and held["number"] == number:
            self._count(fields, {"sent": len(rows)}, number=number, at=at)

    def _attempted(self, number: int, fields: Fields, at: datetime) -> None:
        outcomes = [_outcome(raw) for raw in fields["outcomes"]]
        recipients = self._recipients(fields["id"])
        counted: dict[str, int] = {}
        sent = fields["number"] == 1 and self._is_scheduled(fields["id"])
        for outcome in outcomes:
            row = recipients.get(outcome.recipient)
            if row is None:
                continue
            noted = note_outcome(row, outcome, number=number)
            if move(row, outcome.state, number=number, at=at) or noted:
                self._note_move(fields["id"], row)
            if outcome.state not in ENDED or row["number"] == number:  # of two ends one stands
                word = counted_as(outcome)
                counted[word] = counted.get(word, 0) + 1
                if sent and outcome.state is not State.SUPPRESSED:
                    counted["sent"] = counted.get("sent", 0) + 1
        self._count(fields, counted, number=number, at=at)

    def _is_scheduled(self, email_id: str) -> bool:
        return self._known.emails.get(email_id, {}).get("scheduled_at") is not None

    def _released(self, number: int, fields: Fields, at: datetime) -> None:
        self._move_delivery(State.QUEUED, number=number, fields=fields, at=at)

    def _held(self, number: int, fields: Fields, at: datetime) -> None:
        self._move_delivery(State.HELD, number=number, fields=fields, at=at)
        self._count(fields, {"failed": len(fields.get("recipients", ()))}, number=number, at=at)

    def _move_delivery(self, state: State, *, number: int, fields: Fields, at: datetime) -> None:
        """Move what has not ended of one delivery; `move` leaves the ended alone."""
        delivery = int(fields["delivery"])
        for row in self._recipients(fields["id"]).values():
            if row["delivery"] == delivery:
                self._move(fields["id"], row, state, number=number, at=at)

    def _cancelled(self, number: int, fields: Fields, at: datetime) -> None:
        for row in self._recipients(fields["id"]).values():
            if row["state"] not in ENDED:
                self._move(fields["id"], row, State.CANCELLED, number=number, at=at)

    def _rescheduled(self, number: int, fields: Fields, _at: datetime) -> None:
        scheduled_at = from_ms(fields["scheduled_at"])
        email = self._known.emails.get(fields["id"])
        if email is not None and number > email["scheduled_number"]:
            email.update(scheduled_at=scheduled_at, scheduled_number=number)
            self._changed[fields["id"]] = None

    def _complained(self, number: int, fields: Fields, at: datetime) -> None:
        email = self._known.emails.get(fields["id"])
        if email is not None and not email["complained"]:
            email["complained"] = True
            self._changed[fields["id"]] = None
        self._count(fields, {"complained": len(fields["recipients"])}, number=number, at=at)

    def _reacted(self, number: int, fields: Fields, at: datetime) -> None:
        email = self._known.emails.get(fields["id"])
        if email is None:
            return
        kind, before = Reaction(fields["kind"]), email["reaction"]
        first = {"unique_opened": before is None, "unique_clicked": kind is Reaction.CLICKED and before != kind}
        self._count(fields, {kind.value: 1, **first}, number=number, at=at)
        furthest = Reaction.furthest(kind, before)
        if furthest != before:
            email["reaction"] = furthest
            self._changed[fields["id"]] = None

    def _policy_changed(self, number: int, fields: Fields, at: datetime) -> None:
        place = kind, name = str(fields["object"]), str(fields["name"])
        set_by = self._known.policy.get(place)
        if set_by is not None and number <= set_by:
            return
        self._known.policy[place] = number
        rows = self._new_policy if set_by is None or place in self._new_policy else self._changed_policy
        rows[place] = {
            "kind": kind,
            "name": name,
            "value": fields["value"],
            "number": number,
            "updated_at": at,
        }


def _outcome(raw: dict[str, Any]) -> Outcome:
    return Outcome(int(raw["recipient"]), _STATES[raw["state"]], int(raw["code"]), str(raw["status"]), str(raw["text"]))


def _event_row(event: Event, at: datetime) -> Row:
    """The event as a fact; the message of `accepted` is left out, since emails and recipients hold it."""
    kind, body = event.kind, event.fields.copy()
    for name in _ENVELOPE:
        body.pop(name, None)
    if kind == "accepted":
        body.pop("message", None)
    return {
        "number": event.number,
        "email_id": str(event.fields.get("id") or ""),
        "kind": kind,
        "at": at,
        "body": body,
    }


def _unread_row(event: Event) -> Row:
    """What could not be read, whole, for a person to look at."""
    return {
        "number": event.number,
        "email_id": str(event.fields.get("id") or ""),
        "kind": str(event.fields.get("kind") or ""),
        "at": from_ms(0),
        "body": event.fields,
    }
