"""Reads journals, archive and queue once, from end to end, and sorts what they tell by message.

A fact goes to one of many files by its message's id, and each file is then gathered in memory alone: so a hundred
million messages need disk and time, and no more memory than a few thousand do.
"""

import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, Self

import orjson
from redis import Redis

from outbox.account import Account
from outbox.archive import Archive
from outbox.blobs import Blobs
from outbox.confirmed import marked
from outbox.entry import Entry, Submission
from outbox.errors import Gap
from outbox.events import Event
from outbox.journal import is_held, read_segment
from outbox.packing import unpacked
from outbox.records import Header, decode
from outbox.states import ENDED, State
from outbox.suppression import KIND
from outbox.suppression_facts import SuppressionFacts
from outbox.tail import Tail
from outbox.view import MessageView, outcome_json, read_view
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_FILES = 64
_AT_ONCE = 500


class Facts:
    """Facts in nameless files on the disk of `folder`. First `add` them all, then go through `accounts`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.suppressions = SuppressionFacts()
        self._files: dict[int, IO[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._files.values():
            file.close()

    def add(self, message_id: str, kind: str, *fact: Any) -> None:
        """Keep one (see Account.take)."""
        number = zlib.crc32(message_id.encode()) % _FILES
        if number not in self._files:
            self._files[number] = TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed in __exit__
        self._files[number].write(orjson.dumps((message_id, kind, *fact)) + b"\n")

    def accounts(self) -> Iterator[list[Account]]:
        """The accounts of all messages, one file's at a time."""
        for file in self._files.values():
            file.seek(0)
            accounts: dict[str, Account] = {}
            for line in file:
                message_id, kind, *fact = orjson.loads(line)
                if message_id not in accounts:
                    accounts[message_id] = Account(message_id)
                accounts[message_id].take(kind, *fact)
            yield list(accounts.values())


class Sources:
    """The journals and archives of this machine, and of other machines' data folders."""

    def __init__(self, settings: Settings, others: Sequence[Path] = ()) -> None:
        folders = [settings.data_dir, *others]
        self.blobs = Blobs(settings)
        self.archives = [Archive.open(settings), *(Archive(folder / "archive") for folder in others)]
        self.begins_at = 0  # ms: what the archive tells begins here; of older mail it may have forgotten the end
        self.journals = [path for folder in folders for path in sorted((folder / "journal").glob("*/*.log"))]
        self._kept: tuple[tuple[int, int], Entry] | None = None

    def read_journals(self, facts: Facts) -> Iterator[Header]:
        """Add what the journals tell; yields the headers of accepts on the way. Torn tails end their files."""
        for file, path in enumerate(self.journals):
            for place, header, _ in read_segment(path):
                try:
                    _add_record(facts, file, place.offset, header)
                except (KeyError, TypeError, ValueError) as error:  # of another version
                    log.error("journal.unreadable", path=str(path), offset=place.offset, error=repr(error))
                    continue
                if header["kind"] == "accepted":
                    yield header
                elif header["kind"] == KIND:
                    facts.suppressions.note(header["address"], header["at"], header["value"], told=False)

    def read_archives(self, facts: Facts, *, after: int = 0) -> tuple[int, list[Gap]]:
        """Add what the archives tell beyond event `after`: the last number, and the holes and damages that were met."""
        gaps: list[Gap] = []
        newest = [self._read_archive(facts, at, after, gaps) for at in range(len(self.archives))]
        return max(after, *newest), gaps

    def _read_archive(self, facts: Facts, at: int, after: int, gaps: list[Gap]) -> int:
        archive, number = self.archives[at], None
        for segment in archive.segments():
            if segment.last <= after:
                continue
            try:
                recorded = archive.read(segment.first - 1, segment.last - segment.first + 1)
            except Gap as damage:
                gaps.append(damage)
                number = max(segment.last, number or 0)
                continue
            if number is not None:  # two machines wrote, before there was one turn for all: they overlap
                recorded = [each for each in recorded if each.event.number > number]
                if not recorded:
                    continue
                if not recorded[0].event.follows(number):
                    gaps.append(Gap(number + 1, segment.first))
            if number is None and at == 0 and segment.first > 1 and not after:
                self.begins_at = recorded[0].event.fields["at"]
            for each in recorded:
                add_event(facts, at, each.event)
            number = segment.last
        return number or 0

    def message(self, account: Account, redis: Redis, prefix: str) -> Submission | None:
        """The message and its content; None when no store has the content any more."""
        if account.journal is not None:
            return self._entry(account.journal.file, account.journal.offset).submissions[account.journal.nth]
        if account.accepted is None:
            return None
        if account.accepted.archive < 0:
            return self._of_queue(redis, prefix, account.id)
        (found,) = self.archives[account.accepted.archive].read(account.accepted.number - 1, 1)
        content = found.content
        if content is None:
            return None
        header = {"messages": [found.event.fields["message"]], "sizes": [len(content)]}
        return Entry.from_record(header, content).submissions[0]

    def _of_queue(self, redis: Redis, prefix: str, message_id: str) -> Submission | None:
        pipe = redis.pipeline(transaction=False)
        pipe.hgetall(f"{{{prefix}}}:m:{message_id}")
        pipe.get(f"{{{prefix}}}:c:{message_id}")
        fields, content = pipe.execute()
        if not fields:
            return None
        message = read_view(fields, None).message
        content = self.blobs.read(message) if message.blob else unpacked(content)
        return Submission(message, content) if content is not None else None

    def receipt(self, place: tuple[int, int]) -> tuple[Header, str]:
        """A receipt's record, and the name of the folder it lies in."""
        header, _ = self._record(*place)
        return header, self.journals[place[0]].parent.name

    def _entry(self, file: int, offset: int) -> Entry:
        if self._kept is None or self._kept[0] != (file, offset):  # a batch lies in one record
            self._kept = ((file, offset), Entry.from_record(*self._record(file, offset)))
        return self._kept[1]

    def _record(self, file: int, offset: int) -> tuple[Header, bytes]:
        with self.journals[file].open("rb") as stream:
            stream.seek(offset)
            _, header, blob = next(decode(stream))
        return header, blob


def read_stream(redis: Redis, prefix: str, facts: Facts, *, after: int) -> int:
    """Add what the queue's stream tells beyond event `after`; the last of the events that follow it without a hole."""
    tail, number, unbroken = Tail(redis, prefix), after, after
    while events := tail.events(number, _AT_ONCE):
        for event in events:
            if event.follows(unbroken):
                unbroken = event.number
            add_event(facts, -1, event)
        number = events[-1].number
    return unbroken


def read_queue(redis: Redis, prefix: str, facts: Facts, *, whole: bool) -> None:
    """Add which messages the queue holds and whether they live; `whole`: and all that it knows of each."""
    ids: list[bytes] = []
    for message_id, _ in redis.zscan_iter(f"{{{prefix}}}:index", count=_AT_ONCE):
        ids.append(message_id)
        if len(ids) >= _AT_ONCE:
            _ask(redis, prefix, facts, ids, whole=whole)
            ids.clear()
    _ask(redis, prefix, facts, ids, whole=whole)


def _ask(redis: Redis, prefix: str, facts: Facts, ids: list[bytes], *, whole: bool) -> None:
    pipe = redis.pipeline(transaction=False)
    for message_id in ids:
        name = f"{{{prefix}}}:m:{message_id.decode()}"
        if whole:
            pipe.hgetall(name)
        else:
            pipe.hget(name, "live")
    for message_id, reply in zip(ids, pipe.execute() if ids else [], strict=True):
        if reply and whole and b"live" in reply:
            facts.add(message_id.decode(), "queue", int(reply[b"live"]) > 0)
            _add_view(facts, read_view(reply, None))
        elif reply and not whole:
            facts.add(message_id.decode(), "queue", int(reply) > 0)


def _add_view(facts: Facts, view: MessageView) -> None:
    ended = [o for o in view.outcomes if o is not None and o.state in ENDED]
    if ended:
        facts.add(view.message.id, "seen", [[o.recipient, *orjson.loads(outcome_json(o))] for o in ended])
    if State.CANCELLED in view.states:
        facts.add(view.message.id, "cancelled", 0, False)
    if view.reaction:
        facts.add(view.message.id, "reacted", view.reaction)


def _add_record(facts: Facts, file: int, offset: int, header: Header) -> None:
    match header["kind"]:
        case "accepted":
            for nth, message in enumerate(header["messages"]):
                told = (len(message["recipients"]), message["created_at"], header["confirmed"])
                facts.add(message["id"], "journal", file, offset, nth, *told)
                _add_blob(facts, message)
        case "confirmed":
            for message_id in chain.from_iterable(marked(header)):
                facts.add(message_id, "confirmed", header.get("repeat", False))
        case "receipt":
            number = header["attempts"] + 1
            when = (header["ended_at"], header["next_attempt_at"], header.get("in_doubt", False))
            place = (header["token"], header["delivery"], number, [file, offset])
            facts.add(header["id"], "receipt", *place, *when, header["outcomes"])
            if header["complained"]:
                facts.add(header["id"], "complained")
            _add_begun(facts, header.get("begins"))
        case "begun":
            _add_begun(facts, header["key"])
        case "cancelled":
            facts.add(header["id"], "cancelled", header["at"], False)
        case "rescheduled":
            facts.add(header["id"], "rescheduled", header["at"], header["scheduled_at"], False)


def _add_begun(facts: Facts, key: str | None) -> None:
    if key is None:
        return
    delivery_id, _, token = key.rpartition("#")
    message_id, _, delivery = delivery_id.rpartition("/")
    facts.add(message_id, "begun", int(delivery), int(token))


def _add_blob(facts: Facts, message: dict[str, Any]) -> None:
    if message.get("blob"):
        facts.add(message["id"], "blob", message["blob"])


def add_event(facts: Facts, archive: int, event: Event) -> None:
    """Add what one event tells."""
    fields, message_id = event.fields, event.fields["id"]
    match event.kind:
        case "accepted":
            facts.add(message_id, "accepted", archive, event.number, len(fields["message"]["recipients"]))
            _add_blob(facts, fields["message"])
        case "attempted":
            outcomes = [
                [o[name] for name in ("recipient", "state", "code", "status", "text")] for o in fields["outcomes"]
            ]
            told = (fields["at"], fields["next_attempt_at"], fields.get("in_doubt", False), outcomes)
            facts.add(message_id, "attempted", fields["delivery"], fields["number"], event.number, *told)
        case "released" | "held" | "redriven":
            duplicate = fields.get("possible_duplicate", False)
            facts.add(message_id, "lease", fields["delivery"], event.number, event.kind, duplicate)
        case "cancelled":
            facts.add(message_id, "cancelled", fields["at"], True)
        case "rescheduled":
            facts.add(message_id, "rescheduled", fields["at"], fields["scheduled_at"], True)
        case "complained":
            facts.add(message_id, "complained")
        case "opened" | "clicked":
            facts.add(message_id, "reacted", event.kind)
        case "policy_changed" if fields["object"] == KIND:
            facts.suppressions.note(fields["name"], fields["at"], fields["value"], told=True)


def under_way(folders: Sequence[Path]) -> set[str]:
    """Attempts that living workers have begun and not ended: their receipts may still come."""
    begun: set[str] = set()
    for journal in (path for folder in folders for path in (folder / "journal").glob("*") if is_held(path)):
        for segment in sorted(journal.glob("*.log")):
            for _, header, _ in read_segment(segment):
                if header["kind"] == "begun":
                    begun.add(header["key"])
                elif header["kind"] == "receipt":
                    begun.discard(f"{header['id']}/{header['delivery']}#{header['token']}")
                    if begins := header.get("begins"):
                        begun.add(begins)
    return begun
