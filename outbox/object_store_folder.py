"""Objects in a folder: each a file that appears whole, once it is on the disk."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from outbox.errors import ObjectsUnavailable
from outbox.journal import sync_folder


class FolderStore:
    """A folder, made with the first object."""

    def __init__(self, folder: Path, *, suffix: str | tuple[str, ...]) -> None:
        self.folder = folder
        self._suffix = suffix

    def names(self, after: str = "") -> Iterator[str]:
        """All names greater than `after`, in order."""
        with _told():
            found = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        yield from sorted(name for name in found if name > after and name.endswith(self._suffix))

    def put(self, name: str, octets: bytes) -> None:
        """Write beside, flush, rename: a name never leads to half an object."""
        path = self.folder / name
        fresh = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        with _told():
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with fresh.open("wb") as stream:
                    stream.write(octets)
                    stream.flush()
                    os.fsync(stream.fileno())
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)
            sync_folder(self.folder)
        if self.get(name) != octets:
            raise ObjectsUnavailable(f"{name} does not read back as it was written")

    def get(self, name: str) -> bytes | None:
        """What is kept under the name; None when nothing is."""
        with _told():
            try:
                return (self.folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def open(self, name: str) -> IO[bytes] | None:
        """What is kept under the name, to be read in pieces and closed; None when nothing is."""
        with _told():
            try:
                return (self.folder / name).open("rb")
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
        raise ObjectsUnavailable(f"folder of objects: {failure}") from failure
