"""A thread that does nothing but fdatasync. An executor's way there and back is sixty calls; this one is five."""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

Tell = Callable[[Exception | None], None]


class Flusher:
    """One after the other, in the order in which they were asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: SimpleQueue[tuple[int, asyncio.AbstractEventLoop, Tell] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None  # from the first one on

    def flush(self, handle: int, tell: Tell) -> None:
        """Fdatasync this handle, and close it; then `tell` is called on the event loop with what went wrong, or None.

        It is not called once the loop has ended.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._asked.put((handle, asyncio.get_running_loop(), tell))

    def stop(self) -> None:
        """After the last one."""
        self._asked.put(None)

    def _run(self) -> None:
        while asked := self._asked.get():
            handle, loop, tell = asked
            failure: Exception | None = None
            try:
                _flush(handle)
            except Exception as error:  # noqa: BLE001  (handed to who asked)
                failure = error
            with suppress(RuntimeError):  # the loop has ended before the disk did
                loop.call_soon_threadsafe(tell, failure)


def _flush(handle: int) -> None:
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)
