"""Header values as a person reads them: encoded words decoded, address lists taken apart. Pure, linear in its input.

The standard library's parsers are not used: they recurse on parentheses and take seconds for a long list.
"""

import base64
import binascii
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from runtime.text import sound

# RFC 2047 section 2, without its limit of 75 octets, which many exceed.
_WORD = re.compile(r"=\?([A-Za-z0-9_.:\-]{1,40})(?:\*[A-Za-z0-9\-]*)?\?([bBqQ])\?([^?\s]{0,1000})\?=")
_BETWEEN_WORDS = re.compile(r"(\?=)[ \t]+(?==\?)")  # white space between two encoded words is not shown: section 6.2
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SHORT = 300  # characters of a list that is worth keeping
_SPECIAL = re.compile(r'[\\"(),:;<>]')


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One member of an address list: as written (encoded words decoded), and its bare address ('' if there is none)."""

    text: str
    address: str


def unfolded(value: bytes) -> str:
    """A raw header value on one line (RFC 5322 section 2.2.3); octets that are not UTF-8 become U+FFFD."""
    return value.replace(b"\r\n", b"").decode("utf-8", "replace").strip(" \t")


def shown(value: str) -> str:
    """An unfolded value with its encoded words decoded. Control characters, also encoded ones, become spaces."""
    if "=?" in value:
        value = _WORD.sub(_decoded_word, _BETWEEN_WORDS.sub(r"\1", value))
    return value if value.isprintable() else _CONTROL.sub(" ", value)  # nothing printable is a control character


def _decoded_word(word: re.Match[str]) -> str:
    charset, encoding, text = word.groups()
    try:
        if encoding in "bB":
            octets = base64.b64decode(text + "=" * (-len(text) % 4))
        else:
            octets = quopri.decodestring(text.encode(), header=True)
        return sound(octets.decode(charset, "replace"))
    except (LookupError, ValueError, binascii.Error):
        return word[0]


def mailboxes(value: str, *, most: int) -> tuple[Mailbox, ...]:
    """The members of an address list (RFC 5322 section 3.4), at most `most`; groups give their members."""
    return _known(value, most) if len(value) <= _SHORT else _read(value, most)


@lru_cache(maxsize=1024)
def _known(value: str, most: int) -> tuple[Mailbox, ...]:
    """Programs send from one address, and often to the same."""
    return _read(value, most)


def _read(value: str, most: int) -> tuple[Mailbox, ...]:
    members: list[Mailbox] = []
    for member in _members(value) if value else ():
        if len(members) == most:
            break
        members.append(Mailbox(shown(member.text), member.address))
    return tuple(members)


def _members(value: str) -> Iterator[Mailbox]:
    reading = _Reading()
    at = 0
    while at < len(value):
        special = _SPECIAL.search(value, at)
        end = special.start() if special else len(value)
        reading.plain(value[at:end])
        if special is None:
            break
        at = end + 1
        if special[0] == "\\":
            reading.plain(value[end : end + 2])
            at += 1
        elif reading.is_open:
            reading.inside(special[0])
        elif special[0] in ",;":
            yield from reading.finish()
            reading = _Reading()
        elif special[0] == ":":
            reading = _Reading(doubtful=True)  # what came before is the name of a group
        else:
            reading.opens(special[0])
    yield from reading.finish()


class _Reading:
    """One member of the list while it is read. No recursion: comments nest by a counter."""

    __slots__ = ("_angle", "_bare", "_depth", "_doubtful", "_text", "_within")

    def __init__(self, *, doubtful: bool = False) -> None:
        self._text: list[str] = []  # all of it, as written
        self._bare: list[str] = []  # less comments, quoted strings kept
        self._angle: list[str] | None = None  # what stands in angle brackets
        self._within = ""  # the character that closes what is open: " > )
        self._depth = 0
        self._doubtful = doubtful

    @property
    def is_open(self) -> bool:
        """Inside a quoted string, angle brackets or a comment, where commas are text."""
        return bool(self._within)

    def plain(self, text: str) -> None:
        self._text.append(text)
        if self._within == ">" and self._angle is not None:
            self._angle.append(text)
        elif self._within != ")":
            self._bare.append(text)
            self._doubtful |= self._angle is not None and bool(text.strip())  # text after the brackets

    def opens(self, character: str) -> None:
        if character == "<":
            self._doubtful |= self._angle is not None
            self._angle = []
            self._text.append(character)
        elif character == "(":
            self._depth = 1
            self._text.append(character)
        else:
            self.plain(character)
        self._within = {"<": ">", "(": ")"}.get(character, character if character == '"' else "")

    def inside(self, character: str) -> None:
        if self._within == ")":
            self._text.append(character)
            self._depth += {"(": 1, ")": -1}.get(character, 0)
            if not self._depth:
                self._within = ""
        elif character == self._within:
            self._within = ""
            if character == ">":
                self._text.append(character)
            else:
                self.plain(character)
        else:
            self.plain(character)

    def finish(self) -> Iterator[Mailbox]:
        """The member, unless it is empty. One that is not clearly a mailbox has no address."""
        text = "".join(self._text).strip()
        if not text:
            return
        outside = "".join(self._bare).strip()
        address = outside if self._angle is None else "".join(self._angle).strip()
        yield Mailbox(text, "" if self._doubtful or self.is_open else address)
