"""Archived segments in a folder: each a file that appears whole, once it is on the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from outbox.errors import ArchiveUnavailable
from outbox.journal import sync_folder

SUFFIXES = (".zst", ".gz")  # segments of today, and those that earlier versions wrote


class FolderStore:
    """A folder, made with the first segment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self, after: str = "") -> Iterator[str]:
        """All names greater than `after`, in order."""
        with _told():
            found = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        yield from sorted(name for name in found if name > after and name.endswith(SUFFIXES))

    def put(self, name: str, octets: bytes) -> None:
        """Write beside, flush, rename: a name never leads to half a segment."""
        path = self.folder / name
        fresh = path.with_suffix(f".{os.getpid()}")
        with _told():
            self.folder.mkdir(parents=True, exist_ok=True)
            with fresh.open("wb") as stream:
                stream.write(octets)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(path)
            sync_folder(self.folder)
        if self.get(name) != octets:
            raise ArchiveUnavailable(f"{name} does not read back as it was written")

    def get(self, name: str) -> bytes | None:
        """What is kept under the name; None when nothing is."""
        with _told():
            try:
                return (self.folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def written_at(self, name: str) -> datetime | None:
        """When it was put."""
        with _told():
            try:
                return datetime.fromtimestamp((self.folder / name).stat().st_mtime, UTC)
            except FileNotFoundError:
                return None

    def delete(self, name: str) -> None:
        """Forget it; not there is fine."""
        with _told():
            (self.folder / name).unlink(missing_ok=True)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise ArchiveUnavailable(f"archive folder: {failure}") from failure
