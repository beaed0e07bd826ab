"""Where archived segments and large contents are kept: a folder, or an S3-compatible store. `open_store` chooses."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol

from outbox.object_store_folder import FolderStore
from runtime.settings import Settings

Suffix = str | tuple[str, ...]

ARCHIVED = (".zst", ".gz")  # how names of archived segments end: of today, and those that earlier versions wrote
_S3 = "s3://"


class Store(Protocol):
    """Named, immutable runs of octets; all names end alike. All methods raise ObjectsUnavailable."""

    def names(self, after: str = "") -> Iterator[str]:
        """All names greater than `after`, in order."""
        ...

    def put(self, name: str, octets: bytes) -> None:
        """Keep it. On return it was read back and was the same."""
        ...

    def get(self, name: str) -> bytes | None:
        """What is kept under the name; None when nothing is."""
        ...

    def open(self, name: str) -> IO[bytes] | None:
        """What is kept under the name, to be read in pieces and closed; None when nothing is."""
        ...

    def written_at(self, name: str) -> datetime | None:
        """When it was put."""
        ...

    def delete(self, name: str) -> None:
        """Forget it; not there is fine."""
        ...


def open_store(
    url: str, *, suffix: str | tuple[str, ...], endpoint: str | None = None, spool: Path | None = None
) -> Store:
    """The store at `s3://bucket/prefix` or in a folder. Raises ObjectsUnavailable when its library is not installed.

    `spool`: a folder on a disk for what is downloaded to be read in pieces; a temporary one may lie in memory.
    """
    if url.startswith(_S3):
        from outbox.object_store_s3 import S3Store  # noqa: PLC0415 - most stores are folders, and boto3 is large

        bucket, _, prefix = url.removeprefix(_S3).partition("/")
        return S3Store(bucket, prefix, suffix=suffix, endpoint=endpoint, spool=spool)
    return FolderStore(Path(url), suffix=suffix)


def open_archive_store(settings: Settings) -> Store:
    """The store of the archive. Raises ObjectsUnavailable."""
    url = settings.archive_url or str(settings.data_dir / "archive")
    return open_store(url, suffix=ARCHIVED, endpoint=settings.archive_endpoint)
