"""`nightmail check` of the stores that no process needs to start: the archive, and large contents."""

import sys

import pytest
from click.testing import CliRunner

from nightmail.commands.check import check
from tests.fixtures.object_store import BUCKET


@pytest.fixture
def told(tmp_path):
    """Runs the check with settings, and gives its lines by what they are about."""

    def told(**settings):
        nobody = {"NIGHTMAIL_REDIS_URL": "redis://127.0.0.1:9", "NIGHTMAIL_DATA_DIR": str(tmp_path)}
        result = CliRunner().invoke(check, [], env=nobody | settings)
        lines = [line.partition(": ") for line in result.output.splitlines() if line.startswith(("ok", "FAILED"))]
        return {head.split(maxsplit=1)[1]: (head.split()[0], rest) for head, _, rest in lines}

    return told


def test_folders_are_tried(told, tmp_path):
    """Both are written, read and left as they were; a file in the place of a folder is a problem."""
    lines = told(NIGHTMAIL_BLOB_URL=str(tmp_path / "large"))
    assert lines["large contents"] == ("ok", f"{tmp_path / 'large'} can be written, read and deleted from")
    assert lines["archive"] == ("ok", "the data folder can be written, read and deleted from")
    assert [*(tmp_path / "large").iterdir(), *(tmp_path / "archive").iterdir()] == []
    (tmp_path / "file").touch()
    assert told(NIGHTMAIL_ARCHIVE_URL=str(tmp_path / "file"))["archive"][0] == "FAILED"


def test_stores_at_s3_are_tried(told, s3_endpoint):
    """A bucket that takes octets is fine, one that is not there is a problem."""
    urls = {"NIGHTMAIL_BLOB_URL": f"s3://{BUCKET}/large", "NIGHTMAIL_ARCHIVE_URL": "s3://absent/archive"}
    endpoints = {"NIGHTMAIL_BLOB_ENDPOINT": s3_endpoint, "NIGHTMAIL_ARCHIVE_ENDPOINT": s3_endpoint}
    lines = told(**urls, **endpoints)
    assert lines["large contents"][0] == "ok"
    assert lines["archive"][0] == "FAILED"
    assert "NoSuchBucket" in lines["archive"][1]


def test_a_missing_library_is_said(told, monkeypatch):
    """Without boto3 the check says what to install, before a process finds out."""
    monkeypatch.delitem(sys.modules, "outbox.object_store_s3", raising=False)
    monkeypatch.setitem(sys.modules, "boto3", None)
    state, words = told(NIGHTMAIL_ARCHIVE_URL="s3://bucket/archive")["archive"]
    assert state == "FAILED"
    assert "boto3" in words
