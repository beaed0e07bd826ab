"""Where archived segments are kept: a folder of this machine, or an S3-compatible store. `open_store` chooses."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Protocol

from outbox.archive_store_folder import FolderStore
from runtime.settings import Settings

_S3 = "s3://"


class Store(Protocol):
    """Named, immutable runs of octets. Names begin alike and sort by their events. All raise ArchiveUnavailable."""

    def names(self, after: str = "") -> Iterator[str]:
        """All names greater than `after`, in order."""
        ...

    def put(self, name: str, octets: bytes) -> None:
        """Keep it. On return it was read back and was the same."""
        ...

    def get(self, name: str) -> bytes | None:
        """What is kept under the name; None when nothing is."""
        ...

    def written_at(self, name: str) -> datetime | None:
        """When it was put."""
        ...

    def delete(self, name: str) -> None:
        """Forget it; not there is fine."""
        ...


def open_store(settings: Settings) -> Store:
    """The store that the settings name. Raises ArchiveUnavailable when its library is not installed."""
    url = settings.archive_url
    if url.startswith(_S3):
        from outbox.archive_store_s3 import S3Store  # noqa: PLC0415 - most archives are folders, and boto3 is large

        bucket, _, prefix = url.removeprefix(_S3).partition("/")
        return S3Store(bucket, prefix, endpoint=settings.archive_endpoint)
    return FolderStore(Path(url) if url else settings.data_dir / "archive")
