"""In interpreters of their own: to fork one that has threads, as that of the tests has, is not safe."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from nightmail.fork import can_fork
from tests.fixtures.stack import ROOT
from tests.fixtures.waiting import until_sync
from tests.unit.nightmail.test_supervisor import gone

pytestmark = pytest.mark.skipif(not can_fork(), reason="elsewhere children are executed")

# What the copy runs in place of the command line, to tell what it is.
PROBE = """
import orjson, os, signal, sys, time
from pathlib import Path
import nightmail.cli
from nightmail.fork import Fork, load_shared

def probe(words, prog_name):
    if words == ["sleep"]:
        print("up", flush=True)
        time.sleep(60)
    if words == ["fail"]:
        raise ValueError("no luck")
    told = {"words": words, "sid": os.getsid(0), "pid": os.getpid(), "environment": dict(os.environ)}
    others = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd") if int(fd) > 2]
    told |= {"open": [other for other in others if os.path.exists(other)]}  # that of the folder itself is closed
    told |= {"comm": Path("/proc/self/comm").read_text().strip(), "stdin": os.readlink("/proc/self/fd/0")}
    told |= {"handled": [number for number in NUMBERS if signal.getsignal(number) != signal.SIG_DFL]}
    sys.stdout.buffer.write(orjson.dumps(told) + b"\\n")
    sys.exit(3)

nightmail.cli.main = probe
NUMBERS = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
for number in NUMBERS:
    signal.signal(number, lambda *_: None)
log = open("log", "ab")
print("said once")  # and not flushed

def fork(*words):
    return Fork("probe", words, {"ONLY": "this"}, log)

"""


def command(code: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{PROBE}{code}"]


def run(folder: Path, code: str) -> str:
    done = subprocess.run(command(code), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_copy_runs_a_command_and_holds_nothing_of_its_parent(tmp_path):
    """Its words, environment, session and signals are its own, no other file is open, and its exit code is told."""
    said = run(tmp_path, "child = fork('worker', '--queue'); print(child.wait(), child.poll(), child.pid)")
    *_, code, again, pid = said.split()
    assert (code, again) == ("3", "3")
    assert said.count("said once") == 1
    told = orjson.loads((tmp_path / "log").read_bytes())
    assert told == {
        "words": ["worker", "--queue"],
        "sid": int(pid),
        "pid": int(pid),
        "environment": {"ONLY": "this"},
        "open": [],
        "comm": "nm-probe",
        "stdin": "/dev/null",
        "handled": [],
    }


def test_what_fails_says_why_in_its_log(tmp_path):
    """An error that nobody caught ends the copy with code 1 and a traceback, and unwinds nothing of the parent."""
    assert run(tmp_path, "print(fork('fail').wait())").split()[-1] == "1"
    assert "ValueError: no luck" in (tmp_path / "log").read_text()


def test_it_can_be_ended_at_any_moment(tmp_path):
    """SIGTERM right after the fork is not taken for one to the parent."""
    said = run(tmp_path, "for _ in range(20):\n  child = fork('sleep'); child.terminate(); print(child.wait())")
    assert said.split()[2:] == ["-15"] * 20


def test_it_is_killed_with_its_parent(tmp_path):
    """A kill -9 of the parent leaves nobody behind."""
    code = "child = fork('sleep'); print(child.pid, flush=True); child.wait()"
    with subprocess.Popen(command(code), cwd=tmp_path, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"said once\n"
        child = int(parent.stdout.readline())
        until_sync(lambda: (tmp_path / "log").read_text() == "up\n")
        parent.kill()
    until_sync(lambda: gone(child))


def test_what_copies_share_is_behind_no_wall(tmp_path):
    """Nothing that is loaded for all of them is a database or an HTTP client, which most of them must not know."""
    said = run(tmp_path, "load_shared(); print(*{name.partition('.')[0] for name in sys.modules})")
    assert "fastapi" in said
    assert not {"sqlalchemy", "alembic", "history", "psycopg", "httpx", "requests", "urllib3", "aiohttp"} & {
        *said.split()
    }
