"""Contents of large messages, in files beside the queue: a value of megabytes would stop Redis for everybody.

The message carries the SHA-256 of such a content (`Message.blob`); the file's name is made of its id and that hash, so
that two requests with one idempotency key cannot overwrite each other. For blocking code.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from functools import cached_property
from typing import IO

from prometheus_client import Counter

from outbox.errors import BlobLost, ObjectsUnavailable
from outbox.journal import read_segment
from outbox.message import Message
from outbox.object_store import Store, open_store
from outbox.records import Header
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

LARGE = 64 * 1024  # octets above which a content is kept here
PIECE = 1024 * 1024  # octets that are read and hashed at once
BLOCK = 256 * 1024  # octets that are sent at once

LOST = Counter("nightmail_blobs_lost_total", "Large contents that were missing or damaged when they were needed")

_SUFFIX = ".eml"


class OpenBlob:
    """A content that was read once and found to be what was accepted. Holds a file and not its octets; close it."""

    def __init__(self, stream: IO[bytes], size: int, *, ascii_only: bool, front: bytes = b"") -> None:
        self._stream = stream
        self._size = size
        self._ascii_only = ascii_only
        self._front = front

    def behind(self, front: bytes) -> "OpenBlob":
        """The same content with these (ASCII) header fields in front."""
        return OpenBlob(self._stream, self._size, ascii_only=self._ascii_only, front=front)

    def __len__(self) -> int:
        return len(self._front) + self._size

    def isascii(self) -> bool:
        """As `bytes.isascii`."""
        return self._ascii_only

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """All of it from the start, read in a thread. Raises ObjectsUnavailable."""
        if self._front:
            yield self._front
        try:
            await asyncio.to_thread(self._stream.seek, 0)
            while block := await asyncio.to_thread(self._stream.read, BLOCK):
                yield block
        except OSError as failure:
            raise ObjectsUnavailable(f"large content: {failure}") from failure

    def pieces(self) -> Iterator[bytes]:
        """All of it from the start, for blocking code. Raises ObjectsUnavailable."""
        try:
            self._stream.seek(0)
            yield from _pieces(self._stream)
        except OSError as failure:
            raise ObjectsUnavailable(f"large content: {failure}") from failure

    def read(self) -> bytes:
        """All of it at once."""
        self._stream.seek(0)
        return self._stream.read()

    def close(self) -> None:
        """Give the file back."""
        self._stream.close()


class Blobs:
    """The store that the settings name. Opened when it is first needed: whoever has no large mail needs no boto3."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.blobs
        self._endpoint = settings.blob_endpoint
        self._journals = settings.data_dir / "journal"

    @property
    def enabled(self) -> bool:
        """Whether large contents are kept here, and not in the queue."""
        return bool(self._url)

    @cached_property
    def store(self) -> Store:
        """Raises ObjectsUnavailable."""
        if not self._url:
            raise ObjectsUnavailable("large contents are kept here only with NIGHTMAIL_BLOB_URL")
        return open_store(self._url, suffix=_SUFFIX, endpoint=self._endpoint, spool=self._journals.parent)

    def put(self, message: Message, content: bytes) -> None:
        """Keep the content; durable and read back on return. Raises ObjectsUnavailable."""
        self.store.put(name_of(message), content)

    def read(self, message: Message) -> bytes | None:
        """The content; None when it is missing or damaged. Raises ObjectsUnavailable."""
        if (blob := self._checked(message)) is None:
            return None
        with closing(blob):
            return blob.read()

    def open(self, message: Message) -> OpenBlob:
        """The content, from this machine's journals if the store lost it: then the store is healed.

        Raises BlobLost, or ObjectsUnavailable when nobody can tell.
        """
        if blob := self._checked(message):
            return blob
        LOST.inc()
        content = self._in_journals(message)
        log.error("blob.lost", id=message.id, blob=name_of(message), in_journal=content is not None)
        if content is None:
            raise BlobLost(f"the content of {message.id} is missing or damaged")
        self.put(message, content)
        if blob := self._checked(message):
            return blob
        raise ObjectsUnavailable(f"{name_of(message)} does not read back as it was written")

    def _checked(self, message: Message) -> OpenBlob | None:
        stream = self.store.open(name_of(message))
        if stream is None:
            return None
        digest, size, ascii_only = hashlib.sha256(), 0, True
        try:
            for piece in _pieces(stream):
                digest.update(piece)
                size += len(piece)
                ascii_only = ascii_only and piece.isascii()
        except OSError as failure:
            stream.close()
            raise ObjectsUnavailable(f"{name_of(message)}: {failure}") from failure
        if digest.hexdigest() != message.blob:
            stream.close()
            return None
        return OpenBlob(stream, size, ascii_only=ascii_only)

    def _in_journals(self, message: Message) -> bytes | None:
        """Reads every journal of this machine: long, and never needed while disks are honest."""
        for segment in sorted(self._journals.glob("*/*.log")):
            for _, header, octets in read_segment(segment):
                if header["kind"] == "accepted" and (content := _content_in(header, octets, message)) is not None:
                    return content
        return None


def name_of(message: Message) -> str:
    """The name of the content's file."""
    return blob_name(message.id, message.blob)


def blob_name(message_id: str, digest: str) -> str:
    """The name of the file of the message's content with that SHA-256."""
    return f"{message_id}-{digest}{_SUFFIX}"


def parse_name(name: str) -> tuple[str, str]:
    """Its message's id and its SHA-256."""
    message_id, _, digest = name.removesuffix(_SUFFIX).rpartition("-")
    return message_id, digest


def digest_of(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _content_in(header: Header, octets: bytes, message: Message) -> bytes | None:
    """The message's content in the record of an accept (see Entry.record)."""
    at = 0
    for fields, size in zip(header["messages"], header["sizes"], strict=True):
        content = octets[at : at + size]
        if fields["id"] == message.id and digest_of(content) == message.blob:
            return content
        at += size
    return None


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(PIECE):
        yield piece
