"""The text part of a message that came with HTML only: what a reader without HTML needs, in time linear in the HTML.

Made on libxml2's parser rather than on a layout engine such as inscriptis, which pads table cells: 200 KB of HTML
became 360 MB of text there, and an ordinary 4 KB mail took four times as long.
"""

import re
import threading

from lxml import etree

LONGEST = 256 * 1024  # characters of HTML that are read; the text part of more would help nobody


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


_BLOCKS = _tags(
    "address article aside blockquote center dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 "
    "header hr li main nav ol p pre section table tr ul"
)
_PARAGRAPHS = _tags("blockquote dl h1 h2 h3 h4 h5 h6 ol p pre table ul")
_HIDDEN = _tags("head script style template title")
_SPACE = frozenset(" \t\r\n\f\u00a0\u200c")
_SPACES = re.compile(r"[ \t\r\n\f\u00a0\u200c]+")
_LINK = re.compile(r"(?:https?|mailto|tel):", re.IGNORECASE)


def from_html(html: str) -> str:
    """Readable text with the addresses of links; empty when there is none to be had."""
    parser = _own.parser
    try:
        parser.feed(html[:LONGEST].encode("utf-8", "replace"))
        return str(parser.close())
    except etree.LxmlError:  # nothing in it that is HTML
        _own.parser = _new_parser()
        return ""


class _Writer:
    """A parser target: collects words, and line breaks that are only written when another word follows."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pieces: list[str] = []
        self._breaks = 0
        self._space = False
        self._hidden = 0
        self._link: tuple[str, int] | None = None  # the open one: its address, and where its words begin

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag == "a":
            self._close_link()  # as in HTML; and in links within links the words would be looked through for each
            self._link = (attributes.get("href", ""), len(self._pieces))
        elif tag == "br":
            self._breaks += 1
        elif tag == "img":
            self.data(attributes.get("alt", ""))
        elif tag in _BLOCKS:
            self._break(tag)
            if tag == "li":
                self._write("-")
                self._space = True
        elif tag in {"td", "th"}:
            self._space = True

    def end(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag == "a":
            self._close_link()
        elif tag in _BLOCKS:
            self._break(tag)

    def data(self, text: str) -> None:
        if self._hidden or not text:
            return
        self._space = self._space or text[0] in _SPACE
        if words := _words(text):
            self._write(words)
            self._space = text[-1] in _SPACE

    def close(self) -> str:
        text = "".join(self._pieces)
        self._begin()
        return text

    def _break(self, tag: str) -> None:
        self._breaks = max(self._breaks, 2 if tag in _PARAGRAPHS else 1)

    def _write(self, words: str) -> None:
        if self._pieces:
            self._pieces.append("\n" * min(self._breaks, 2) or " " * self._space)
        self._pieces.append(words)
        self._breaks = 0
        self._space = False

    def _close_link(self) -> None:
        if self._link is None:
            return
        written, start = self._link
        self._link = None
        href = _SPACES.sub("", written)
        if _LINK.match(href) and not self._hidden and href.partition(":")[2] not in "".join(self._pieces[start:]):
            breaks = self._breaks if start < len(self._pieces) else 0  # those behind its words come behind its address
            self._breaks -= breaks
            self._space = True
            self._write(f"({href})")
            self._breaks = breaks


def _words(text: str) -> str:
    """The words with one space between them."""
    if text.isascii():  # `split` knows more kinds of space, and is several times as quick
        return " ".join(text.split())
    return _SPACES.sub(" ", text).strip(" ")


def _new_parser() -> etree.HTMLParser:
    return etree.HTMLParser(target=_Writer(), encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)


class _Own(threading.local):
    """A parser for each thread, used again and again: making one takes longer than reading a short mail."""

    def __init__(self) -> None:
        self.parser = _new_parser()


_own = _Own()
