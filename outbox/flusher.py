"""A thread that does nothing but fdatasync. An executor's way there and back is sixty calls; this one is five."""

import asyncio
import os
import threading
from contextlib import suppress
from queue import SimpleQueue


class Flusher:
    """One after the other, in the order in which they were asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: SimpleQueue[tuple[int, asyncio.Future[None]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None  # from the first one on

    def flush(self, handle: int) -> asyncio.Future[None]:
        """Fdatasync this handle, and close it; the future raises what went wrong."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.put((handle, done))
        return done

    def stop(self) -> None:
        """After the last one."""
        self._asked.put(None)

    def _run(self) -> None:
        while asked := self._asked.get():
            handle, done = asked
            failure: Exception | None = None
            try:
                _flush(handle)
            except Exception as error:  # noqa: BLE001  (handed to who asked)
                failure = error
            with suppress(RuntimeError):  # the loop has ended before the disk did
                done.get_loop().call_soon_threadsafe(_tell, done, failure)


def _flush(handle: int) -> None:
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)


def _tell(done: asyncio.Future[None], failure: Exception | None) -> None:
    if done.cancelled():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
