"""One listening port: accepts connections, each in a task of its own, until it is closed.

It accepts by itself instead of `loop.create_server`, so that a connection is counted before its TLS handshake, which
is when a flood of silent connections would otherwise be free.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from runtime.logs import get
from runtime.tasks import end

log = get(__name__)

_BACKLOG = 1024  # connections that wait for accept(2)
_PAUSE = 0.5  # seconds to wait when accept(2) fails: no file descriptors left

Welcome = Callable[[socket.socket, str], Awaitable[None]]  # the connection and the client's address


class Listener:
    """Several processes may listen on the same port (SO_REUSEPORT); the kernel spreads connections over them."""

    def __init__(self, host: str, port: int, *, welcome: Welcome) -> None:
        """Bind and listen. Raises OSError when the port is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=True)
        self._socket.setblocking(False)
        self._welcome = welcome
        self._accepting: asyncio.Task[None] | None = None
        self.port: int = self._socket.getsockname()[1]

    def start(self) -> None:
        """Begin to accept."""
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Accept no more. What was accepted goes on."""
        await end(self._accepting)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        welcomed: set[asyncio.Future[None]] = set()
        while True:
            try:
                connection, address = await loop.sock_accept(self._socket)
            except OSError as failure:
                log.error("submission.accept_failed", port=self.port, error=str(failure))
                await asyncio.sleep(_PAUSE)
                continue
            task = asyncio.ensure_future(self._welcome(connection, address[0]))
            welcomed.add(task)  # the loop itself keeps only weak references
            task.add_done_callback(welcomed.discard)
