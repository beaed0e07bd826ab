"""One address for several machines: connections go to them in turn, past those that are gone."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence

_OCTETS = 64 * 1024


@contextlib.contextmanager
def balanced(doors: Sequence[int]) -> Iterator[int]:
    """The port of a balancer before these ports of this machine; it works in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="balancer", daemon=True)
    thread.start()
    balancer = _Balancer(doors)
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(balancer.serve, "127.0.0.1", 0), loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Balancer:
    def __init__(self, doors: Sequence[int]) -> None:
        self._doors = list(doors)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        try:
            behind_reader, behind_writer = await self._open()
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._doors.append(self._doors.pop(0))
        for door in self._doors[:-1]:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", door)
        return await asyncio.open_connection("127.0.0.1", self._doors[-1])


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while octets := await reader.read(_OCTETS):
            writer.write(octets)
            await writer.drain()
    writer.close()
