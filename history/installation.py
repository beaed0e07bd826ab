"""The name of a stack's events, made by its first recorder: the queue, the archive and each database carry it.

It is how a backup of another stack shows, whatever its numbers are.
"""

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis import Redis

from history.errors import Foreign
from runtime.settings import Settings


class Installation:
    """Kept in the queue, and in a file beside the archive's segments, which outlives a queue that lost its memory."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._key = f"{{{settings.queue_prefix}}}:installation"
        self._file = settings.data_dir / "archive" / "installation"

    def in_queue(self) -> str:
        """The queue's word, empty when it has none."""
        found: Any = self._redis.get(self._key)
        return found.decode() if found else ""

    def name(self) -> str:
        """What queue or archive say, empty when neither does. Raises Foreign when they differ."""
        queue, archive = self.in_queue(), self._in_archive()
        if queue and archive and queue != archive:
            raise Foreign(f"the archive belongs to installation {archive}, and the queue to {queue}")
        return queue or archive

    def settle(self, name: str) -> str:
        """Make `name`, or a new one if it is empty, the name of queue and archive where they have none; the name."""
        self._redis.set(self._key, name or uuid4().hex, nx=True)
        settled = self.in_queue()
        if not self._in_archive():
            _write(self._file, settled)
        return settled

    def _in_archive(self) -> str:
        try:
            return self._file.read_text().strip()
        except FileNotFoundError:
            return ""


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(text + "\n")
    draft.replace(file)
