"""What the processes on an event loop have in common: they serve until SIGTERM or SIGINT, then end in order."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, Literal

import uvicorn

_BACKLOG = 2048  # connections that wait for accept(2), as uvicorn has it
_GRACE = 8  # seconds for requests in flight at the end; the supervisor kills after 10


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's main coroutine, on uvloop where there is one."""
    if sys.platform == "win32":
        asyncio.run(main)
        return
    import uvloop  # noqa: PLC0415 - not made for every platform

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


class _Server(uvicorn.Server):
    """uvicorn, less its own signal handling: it would raise the signal again before our parts are stopped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _shared_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=True)


async def serve_http(
    app: Any,
    *,
    host: str,
    port: int,
    stopping: asyncio.Event,
    shared: bool = False,
    protocol: type[asyncio.Protocol] | Literal["httptools"] = "httptools",
) -> None:
    """Serve `app` until `stopping` is set, then finish the requests in flight. Several processes may share a port."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",  # its news of starting and stopping are ours to tell
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = _Server(config)
    sockets = [_shared_socket(host, port)] if shared else None
    serving = asyncio.create_task(server.serve(sockets))
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopped.cancel()
