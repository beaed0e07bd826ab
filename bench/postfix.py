"""A Postfix of our own: Debian's package, in a folder of its own, on loopback, with Postfix's own defaults.

What is set is what a relay needs (who may send, where mail goes) and what an isolated machine lacks (DNS, syslog).
Postfix writes each mail to its queue and fsyncs it before it says 250.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fixtures.valkey import free_port
from tests.fixtures.waiting import until_sync

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.bench.test
mydestination =
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
alias_maps =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
"""
# Debian's master.cf, less chroot and the services that are not used here. The columns: service, type, private,
# unprivileged, chroot, wakeup, maxproc, command.
_SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def missing() -> str:
    """Why there is no Postfix to measure; '' where there is one."""
    if shutil.which("postfix") is None:
        return "Postfix is not installed (apt install postfix)"
    return "" if os.geteuid() == 0 else "Postfix starts only as root"


class Postfix:
    """`with Postfix(folder, sink_port) as postfix:` runs until the end of the block."""

    name = "Postfix"

    def __init__(self, folder: Path, sink_port: int) -> None:
        self._folder = folder
        self._sink_port = sink_port
        self.smtp_port = free_port()

    def __enter__(self) -> Self:
        self._write()
        self._call("start")
        until_sync(lambda: self._pid_file.exists() and self._pid_file.read_text().strip() != "")
        self.pid = int(self._pid_file.read_text())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.kill(self.pid, signal.SIGTERM)  # master ends its own process group; `postfix stop` would sleep for seconds
        until_sync(lambda: not Path(f"/proc/{self.pid}").exists())

    @property
    def _pid_file(self) -> Path:
        return self._folder / "spool" / "pid" / "master.pid"

    def roots(self) -> dict[str, int]:
        """The process that is parent of all others."""
        return {"postfix": self.pid}

    def _write(self) -> None:
        for name in ("config", "spool", "data", "log"):
            (self._folder / name).mkdir(parents=True)
        for parent in (self._folder, *self._folder.parents):  # the unprivileged half of Postfix has to get there
            if not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        shutil.chown(self._folder / "data", "postfix")
        words = {"folder": self._folder, "sink": self._sink_port, "port": self.smtp_port, "daemons": _daemons()}
        (self._folder / "config" / "main.cf").write_text(_MAIN.format(**words))
        (self._folder / "config" / "master.cf").write_text(_SERVICES.format(**words))

    def _call(self, word: str) -> None:
        done = subprocess.run(  # noqa: S603 - our own words
            ["/usr/sbin/postfix", "-c", str(self._folder / "config"), word],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise ChildProcessError(f"postfix {word}: {done.stderr.strip() or done.stdout.strip()}")


def _daemons() -> str:
    """Where this system's package has the programs."""
    asked = ["/usr/sbin/postconf", "-h", "daemon_directory"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - fixed
