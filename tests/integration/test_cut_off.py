"""A server that hangs up on everybody, seen by the HTTP clients under the event loop of the processes."""

import contextlib
import socket
import struct
import threading

import httpx
import pytest
import uvloop

from runtime.cut_off import cut_off_as
from runtime.networks import parse_networks
from runtime.outside import Outside, Unreachable

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset
_TRIES = 200


@pytest.fixture
def url():
    """Where connections are reset as soon as they are made, so that some are while the client still makes them."""
    listener = socket.create_server(("127.0.0.1", 0))

    def hang_up():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                connection.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


def test_httpx_calls_it_a_connection_error(url):
    """Never anything else, which would be taken for a fault of ours."""

    async def ask():
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(_TRIES):
                with pytest.raises(httpx.TransportError), cut_off_as(httpx.ConnectError):
                    await client.get(url)

    uvloop.run(ask())


def test_strangers_servers_are_unreachable(url):
    """So a webhook is tried again."""

    async def ask():
        outside = Outside(parse_networks("127.0.0.0/8"))
        for _ in range(_TRIES):
            with pytest.raises(Unreachable):
                await outside.ask("POST", url, headers={}, content=b"", most=10, seconds=5)
        await outside.close()

    uvloop.run(ask())


def test_other_faults_stay_what_they_are():
    """A slip of our own must not pass for one of the network."""
    with pytest.raises(AttributeError), cut_off_as(httpx.ConnectError):
        None.send  # noqa: B018
