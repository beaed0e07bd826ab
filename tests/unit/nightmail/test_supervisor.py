import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nightmail.embedded import Program
from nightmail.leash import leashed
from nightmail.supervisor import Alarm, Supervisor
from tests.fixtures.waiting import until_sync

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
DIES = "raise SystemExit('no luck')"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True)); time.sleep(60)"


def program(name: str, code: str, stage: int = 0) -> Program:
    return Program(name, (sys.executable, "-c", code), stage)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "Z"  # a zombie that nobody waited for is gone too


@pytest.fixture
def supervisor(tmp_path):
    with Alarm() as alarm:
        supervisor = Supervisor(environment=os.environ, log_folder=tmp_path, alarm=alarm, changed=lambda: None)
        yield supervisor
        supervisor.stop()


def pids(supervisor: Supervisor) -> list[int]:
    return [child.to_dict()["pid"] for child in supervisor.children]


def test_a_killed_process_is_back(supervisor):
    """After kill -9 another process of the program runs, and the restart is counted."""
    supervisor.start([program("a", SLEEPER)])
    (first,) = pids(supervisor)
    os.kill(first, signal.SIGKILL)
    until_sync(lambda: supervisor.tend(at_most=0.05) or pids(supervisor) not in ([first], [None]))
    assert supervisor.children[0].to_dict()["restarts"] == 1


def test_a_process_that_keeps_dying_is_started_less_and_less_often(supervisor):
    """The pause before a restart doubles, and the supervisor can say who it is and with which last words."""
    supervisor.start([program("bad", DIES)])
    until_sync(lambda: supervisor.tend(at_most=0.05) or supervisor.failing(3) is not None)
    child = supervisor.failing(3)
    assert child is not None
    assert child.last_words().endswith("no luck")
    assert child.wakes_in == pytest.approx(0.4, abs=0.15)


def test_stages_stop_one_after_the_other(supervisor, tmp_path):
    """A later stage is asked to stop only when the earlier one is gone."""
    ends = tmp_path / "ends"
    names = ["listener", "worker", "store"]
    code = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); print('up', flush=True); signal.sigwait([15]); "
    )
    supervisor.start(
        program(name, code + f"open({str(ends)!r}, 'a').write('{name} ')", stage) for stage, name in enumerate(names)
    )
    until_sync(lambda: all((tmp_path / f"{name}.log").read_text() for name in names))
    supervisor.stop()
    assert ends.read_text().split() == names


def test_who_does_not_stop_is_killed(supervisor, tmp_path, monkeypatch):
    """A process that ignores SIGTERM is killed after the grace, with everything it started."""
    monkeypatch.setattr("nightmail.supervisor._GRACE", 0.3)
    supervisor.start([program("stubborn", STUBBORN)])
    (pid,) = pids(supervisor)
    until_sync(lambda: b"signal.signal" in Path(f"/proc/{pid}/cmdline").read_bytes())
    supervisor.stop()
    assert gone(pid)


def test_logs_are_bounded(supervisor, tmp_path, monkeypatch):
    """A log over its bound is cut, with one older file beside it, while the process goes on writing."""
    monkeypatch.setattr("nightmail.child._LOG_BYTES", 100)
    supervisor.start([program("chatty", "import time\nfor n in range(10**6): print(n, flush=True); time.sleep(0.001)")])
    until_sync(lambda: supervisor.tend(at_most=0.01) or (tmp_path / "chatty.log.1").exists())
    until_sync(lambda: 0 < (tmp_path / "chatty.log").stat().st_size < 100)


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux")
def test_no_process_outlives_a_killed_supervisor(tmp_path):
    """A kill -9 of the parent kills what it had leashed."""
    child_code = f"subprocess.Popen(leashed([sys.executable, '-c', {SLEEPER!r}]))"
    parent = f"import subprocess, sys; from nightmail.leash import leashed; p = {child_code}; print(p.pid, flush=True)"
    with subprocess.Popen([sys.executable, "-c", parent + "; p.wait()"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.stdout.readline() == b"up\n"
        process.kill()
    until_sync(lambda: gone(child))


def test_a_leashed_command_keeps_its_arguments_and_exit_code():
    """The leash becomes the command: same arguments, same exit code."""
    done = subprocess.run(
        leashed([sys.executable, "-c", "import sys; sys.exit(len(sys.argv))", "a b", ""]), check=False
    )
    assert done.returncode == 3
