"""Stopping and starting again: nothing is left running, and nothing that was queued is lost."""

import os

import httpx
import pytest

from tests.fixtures.stack import UpStack, nightmail
from tests.fixtures.waiting import until_sync


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_queued_mail_survives_ctrl_c_beside_another_stack(tmp_path):
    """Ctrl-C leaves no process; the next start, in the background, delivers what was queued, with the same key."""
    closed = {"route": "smarthost", "smarthost_host": "127.0.0.1", "smarthost_port": "9", "smarthost_tls": "none"}
    with UpStack(tmp_path / "one", **closed, retry_first="0.5") as first, UpStack(tmp_path / "two") as beside:
        sent = first.send("waits for the next hop")
        until_sync(lambda: first.api("GET", f"/emails/{sent}").json()["last_event"] == "delivery_delayed")
        pids = [first.process.pid, *first.pids.values()]
        key = first.details.api_key
        first.interrupt()
        assert first.process.returncode == 0, first.said()
        assert not [pid for pid in pids if runs(pid)]
        assert nightmail(first.folder, "status").returncode == 3

        beside.send("not disturbed")
        beside.await_mail("not disturbed")
        assert beside.mailbox(subject="waits") == []

    detached = nightmail(first.folder, "up", "--detach")
    try:
        assert detached.returncode == 0, detached.stderr
        assert key in detached.stdout
        assert sent in first.await_mail("waits for the next hop")["message_id"]
    finally:
        assert nightmail(first.folder, "down").stdout == "Stopped.\n"
    assert not [pid for pid in first.pids.values() if runs(pid)]
    with pytest.raises(httpx.ConnectError):
        first.api("GET", "/emails")
