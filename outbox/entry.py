"""One accept on its way into the stores: what accept.lua is told, and the journal record that can repeat it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from outbox.ids import Idempotency
from outbox.lines import Argument
from outbox.message import Message
from outbox.packing import packed
from outbox.records import Header
from outbox.states import State
from runtime.clock import to_ms
from runtime.frozen import frozen


@frozen
class Submission:
    """A message and its canonical content."""

    message: Message
    content: bytes

    def queued(self, *, has_room: bool = False) -> bytes:
        """What the queue itself gets of the content: nothing of one that lies beside it."""
        return b"" if self.message.blob else packed(self.content, has_room=has_room)


@dataclass(frozen=True, slots=True)
class FirstUse:
    """What the queue remembers of an idempotency key: enough to tell a repeat from a conflict and to answer its ids."""

    fingerprint: str
    day: int
    count: int

    def encode(self) -> str:
        """The value of the key's record."""
        return f"{self.fingerprint}:{self.day}:{self.count}"

    @classmethod
    def decode(cls, raw: bytes) -> "FirstUse":
        """The inverse of `encode`."""
        fingerprint, day, count = raw.decode().split(":")
        return cls(fingerprint, int(day), int(count))


@frozen
class Entry:
    """Messages accepted together, all or nothing, with the first use of an idempotency key if there was one."""

    submissions: tuple[Submission, ...]
    ids: tuple[str, ...]  # of the messages, in order
    metas: tuple[bytes, ...]  # each message's JSON, made once for the queue, its event and the journal
    size: int  # bytes of content that go to the queue, before they are packed
    key_hash: str = ""
    first_use: FirstUse | None = None
    retention_ms: int = 0

    @classmethod
    def of(cls, submissions: Sequence[Submission], idempotency: Idempotency, *, day: int, retention_ms: int) -> "Entry":
        """An entry under an idempotency key."""
        first_use = FirstUse(idempotency.fingerprint, day, len(submissions))
        return replace(
            cls.plain(submissions), key_hash=idempotency.hash(), first_use=first_use, retention_ms=retention_ms
        )

    @classmethod
    def plain(cls, submissions: Sequence[Submission]) -> "Entry":
        """An entry without an idempotency key."""
        return cls(
            submissions=tuple(submissions),
            ids=tuple([s.message.id for s in submissions]),
            metas=tuple([s.message.to_json() for s in submissions]),
            size=sum([len(s.content) for s in submissions if not s.message.blob]),
        )

    @property
    def large(self) -> list[Submission]:
        """The submissions whose contents must lie beside the queue before it may know of them."""
        return [s for s in self.submissions if s.message.blob]

    def arguments(self, now: datetime, *, has_room: bool = False) -> "Arguments":
        """What accept.lua is told of it. `has_room`: the queue's memory need not be saved."""
        at = to_ms(now)
        words: list[Argument] = [self.key_hash]
        if self.first_use:
            words += self.first_use.encode(), self.retention_ms or 1
        contents = [submission.queued(has_room=has_room) for submission in self.submissions]
        groups: list[tuple[tuple[Argument, ...], list[Argument]]] = []
        for submission, meta, content in zip(self.submissions, self.metas, contents, strict=True):
            common = _common(submission.message, at)
            if not groups or groups[-1][0] != common:
                groups.append((common, []))
            groups[-1][1].extend((submission.message.id, meta, len(content)))
        words.append(len(groups))
        for common, own in groups:
            words += len(own) // _OWN, *common, *own
        return Arguments(at, words, contents)

    def record(self, *, confirmed: bool) -> tuple[Header, bytes]:
        """The journal record. `confirmed`: the queue has it, so it need not be put there again.

        Of others a mark will tell it (outbox/confirmed.py).
        """
        contents = [s.content for s in self.submissions]
        header: dict[str, Any] = {
            "kind": "accepted",
            "confirmed": confirmed,
            "messages": list(map(orjson.Fragment, self.metas)),
            "sizes": list(map(len, contents)),
        }
        if self.first_use:
            header |= {"key_hash": self.key_hash, "first_use": self.first_use.encode(), "ms": self.retention_ms}
        return header, b"".join(contents)

    @classmethod
    def from_record(cls, header: Header, blob: bytes) -> "Entry":
        """The inverse of `record`."""
        submissions, at = [], 0
        for fields, size in zip(header["messages"], header["sizes"], strict=True):
            content = blob if size == len(blob) else blob[at : at + size]  # a large one is not copied
            submissions.append(Submission(Message.from_dict(fields), content))
            at += size
        if "first_use" not in header:
            return cls.plain(submissions)
        first_use = FirstUse.decode(header["first_use"].encode())
        return replace(
            cls.plain(submissions), key_hash=header["key_hash"], first_use=first_use, retention_ms=header["ms"]
        )


@frozen
class Arguments:
    """What accept.lua is told of an entry: the time, its words, and its contents, which go by themselves."""

    at: int  # milliseconds since the epoch
    words: list[Argument]
    contents: list[bytes]


_OWN = 3  # words that each message has to itself


def _common(message: Message, now: int) -> tuple[Argument, ...]:
    """What accept.lua is told once for all messages in a row that have it in common, as those of a batch do."""
    due = max(now, to_ms(message.scheduled_at)) if message.scheduled_at else now
    state = State.SCHEDULED if due > now else State.QUEUED
    deliveries = message.deliveries()
    flat: list[Argument] = [state, to_ms(message.created_at), len(deliveries)]
    for delivery in deliveries:
        flat += [delivery.lane, due, ",".join(map(str, delivery.recipients))]
    return tuple(flat)
