"""A child that is a copy of this process: it has imported already what it needs, so it serves sooner, and costs less.

Fork without exec is safe here, because the supervisor has one thread, no event loop and no connection open.
"""

import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

from nightmail.embedded import PACKAGES
from nightmail.leash import tie

# What more than one role imports, and every one of them may know: no database, no HTTP client (docs/architecture.md).
SHARED = (
    "fastapi",
    "nightmail.commands.roles",
    "nightmail.roles.accepting",
    "nightmail.roles.ticker",
    "smtp.server",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
    "worker.jobs",
)
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_COMM = Path("/proc/self/comm")
_FIRST_OF_OTHERS = 3  # file descriptors behind stdin, stdout and stderr


def can_fork() -> bool:
    """Whether a child can be a copy. Elsewhere than on Linux, system libraries may have threads of their own."""
    return sys.platform == "linux"


def load_shared() -> None:
    """Import what the copies will need, and keep the cycle collector from writing to what they share."""
    sys.path.insert(0, str(PACKAGES))  # a folder named smtp where we happen to be is not ours
    for module in SHARED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()


class Fork:
    """`nightmail WORDS` in a session of its own, which dies with us. It answers as `subprocess.Popen` does."""

    def __init__(self, name: str, words: Sequence[str], environment: Mapping[str, str], log: BinaryIO) -> None:
        us = os.getpid()
        sys.stdout.flush()  # or the copy would say again what is still in there
        self.returncode: int | None = None
        with _held_back():
            self.pid = os.fork()
            if self.pid == 0:
                _become(name, words, environment, log.fileno(), parent=us)

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:  # the number of one that was waited for may be another's by now
            os.kill(self.pid, number)


@contextmanager
def _held_back() -> Iterator[None]:
    """No signal is handled in this block: in the child our handlers would take it for one to us."""
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _become(name: str, words: Sequence[str], environment: Mapping[str, str], log: int, *, parent: int) -> NoReturn:
    """Run the command in this copy, and end: nothing of the parent's stack may be unwound here."""
    code = 1
    try:
        tie(parent)
        _COMM.write_text(f"nm-{name}")  # what `ps -e` and `top` show; its command line stays ours
        _settle_in(environment, log)
        code = _run(words)
    except BaseException:  # noqa: BLE001 - there is nobody above to tell
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _settle_in(environment: Mapping[str, str], log: int) -> None:
    """Let go of what is the parent's: session, signals, descriptors, environment."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in _HANDLED:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(_FIRST_OF_OTHERS, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(environment)


def _run(words: Sequence[str]) -> int:
    from nightmail.cli import main  # noqa: PLC0415 - the command line imports what starts forks

    try:
        main(list(words), prog_name="nightmail")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
