"""Objects in an S3-compatible store, through boto3 (`pip install nightmail[s3]`).

Credentials come from where boto3 looks for them: AWS_ACCESS_KEY_ID and its like, a profile, or the machine's role.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from outbox.errors import ObjectsUnavailable

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError as missing:
    raise ObjectsUnavailable("a store at s3:// needs boto3: pip install 'nightmail[s3]'") from missing

_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})

# Newer checksum headers are unknown to many stores that are not Amazon's; we compare hashes ourselves.
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=20,
    retries={"mode": "standard", "max_attempts": 3},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


@cache
def _client(endpoint: str | None) -> Any:
    """A client is dear to make and may be shared by threads."""
    return boto3.client("s3", endpoint_url=endpoint, config=_CONFIG)


class S3Store:
    """One prefix of one bucket, which must exist."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        suffix: str | tuple[str, ...],
        endpoint: str | None,
        spool: Path | None = None,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._suffix = suffix
        self._spool = spool
        self._endpoint = endpoint

    def names(self, after: str = "") -> Iterator[str]:
        """All names greater than `after`, in order: S3 lists by name."""
        begin = {"StartAfter": self._prefix + after} if after else {}
        with _told():
            pages = self._s3.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix, **begin):
                keys = (item["Key"].removeprefix(self._prefix) for item in page.get("Contents", ()))
                yield from (name for name in keys if name.endswith(self._suffix) and "/" not in name)

    def put(self, name: str, octets: bytes) -> None:
        """Upload, and read back: what a store says that it has is not yet what it gives."""
        with _told():
            self._s3.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=octets)
        kept = self.get(name)
        if kept is None or hashlib.sha256(kept).digest() != hashlib.sha256(octets).digest():
            raise ObjectsUnavailable(f"{name} does not read back as it was written")

    def get(self, name: str) -> bytes | None:
        """What is kept under the name; None when nothing is."""
        with _told():
            answer = self._ask("get_object", name)
            return bytes(answer["Body"].read()) if answer else None

    def open(self, name: str) -> IO[bytes] | None:
        """What is kept under the name, downloaded into a nameless file: whoever reads it may take hours."""
        with _told():
            if (answer := self._ask("get_object", name)) is None:
                return None
            stream = TemporaryFile(dir=self._spool)  # noqa: SIM115 - the caller's to close
            try:
                shutil.copyfileobj(answer["Body"], stream)
            except BaseException:
                stream.close()
                raise
            stream.seek(0)
            return stream

    def written_at(self, name: str) -> datetime | None:
        """When it was put."""
        with _told():
            answer = self._ask("head_object", name)
            return answer["LastModified"] if answer else None

    def delete(self, name: str) -> None:
        """Forget it; not there is fine."""
        with _told():
            self._s3.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    @property
    def _s3(self) -> Any:
        return _client(self._endpoint)

    def _ask(self, method: str, name: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = getattr(self._s3, method)(Bucket=self._bucket, Key=self._prefix + name)
        except ClientError as failure:
            if failure.response.get("Error", {}).get("Code") in _ABSENT:
                return None
            raise
        return answer


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, OSError) as failure:
        raise ObjectsUnavailable(f"object store: {type(failure).__name__}: {failure}"[:300]) from failure
