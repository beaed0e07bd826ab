"""A disk whose power can be cut: what was not forced out to it is gone afterwards. Linux, and root, only.

The device itself is taken to have no volatile cache: a disk that lies about its flushes is another fault.
"""

import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path
from typing import Self

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)  # EXT4_GOING_FLAGS_NOLOGFLUSH: not even the file system's own journal is written
_BURIAL = 10.0  # seconds
_BYTES = 4 * 1024**3  # sparse: only what is written takes room


class NoDisk(Exception):
    """This machine lets us mount no disk of our own: it takes Linux, root, mkfs.ext4 and a loop device."""


class LoopDisk:
    """`with LoopDisk(folder) as disk:` makes it and mounts it at `disk.root`. Raises NoDisk."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self.root = folder / "disk"

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(_BYTES)
        _do("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self._image))
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        self._unmount()
        self._image.unlink()

    def _mount(self) -> None:
        _do("mount", "-o", "loop", str(self._image), str(self.root))

    def cut(self) -> None:
        """Cut the power: from now on every access is an error."""
        handle = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _EXT4_IOC_SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(handle)

    def restore(self) -> None:
        """Mount it again, as after a boot. Whoever had files open must have been killed."""
        self._unmount()
        self._mount()

    def _unmount(self) -> None:
        """The killed may need a moment to be gone."""
        deadline = time.monotonic() + _BURIAL
        while True:
            try:
                _do("umount", str(self.root))
            except NoDisk:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


def _do(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - the command is ours
    except FileNotFoundError as error:
        raise NoDisk(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise NoDisk(f"{' '.join(command)}: {error.stderr.strip()}") from error
