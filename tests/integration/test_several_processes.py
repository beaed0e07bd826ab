"""One role in several processes on one port: all serve, one that dies is replaced, and all end together."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.fixtures.stack import environment
from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import until_sync


def children_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def answers(port: int, says: bytes) -> bool:
    """Whether a listener there says something, or takes a request and does."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            return connection.recv(12).startswith(says)
    except OSError:
        return False


@pytest.mark.parametrize(("role", "says"), [("api", b"HTTP/1.1 200"), ("smtp", b"220 ")])
def test_a_role_in_two_processes(settings: Settings, role: str, says: bytes):
    """Each process has its own journal; `kill -9` of one leaves a listener and brings another; SIGTERM ends all."""
    port, folder = free_port(), settings.data_dir
    named = {f"{role}_port": str(port), f"{role}_processes": "2", "secret": "a secret of sixteen", "host": "127.0.0.1"}
    url = settings.redis_url.get_secret_value()
    parent = subprocess.Popen(
        [sys.executable, "-m", "nightmail", role],
        env=environment(folder, redis_url=url, queue_prefix=settings.queue_prefix, **named),
        stderr=subprocess.DEVNULL,
    )
    try:
        journals = [folder / "journal" / f"{role}-{number}" for number in (1, 2)]
        until_sync(lambda: all(journal.exists() for journal in journals) and answers(port, says), seconds=30)
        first = children_of(parent.pid)
        assert len(first) == 2
        os.kill(min(first), signal.SIGKILL)
        until_sync(lambda: len(children_of(parent.pid) - first) == 1 and answers(port, says), seconds=30)
        last = children_of(parent.pid)
        parent.terminate()
        assert parent.wait(30) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in last)
    finally:
        parent.kill()
        parent.wait()
