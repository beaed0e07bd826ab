"""Lines over a real queue, and over a peer that breaks rules: no reply is ever taken for that to another command."""

import asyncio
import socket
import struct

import pytest
from redis.exceptions import NoScriptError, ResponseError

from outbox.errors import QueueLost
from outbox.lines import Lines
from runtime.connections import StoreError, redis_async
from tests.fixtures.loopback import LoopbackServer
from tests.fixtures.waiting import until

_NO_SUCH_SCRIPT = "0" * 40


@pytest.fixture
def lines(redis):
    return Lines(redis)


async def cut(redis, lines):
    """The queue closes the connection of the one idle line; returns once the line knows."""
    (number,) = await lines.ask(("CLIENT", "ID"))
    await redis.execute_command("CLIENT", "KILL", "ID", number)
    (line,) = lines._idle
    await until(lambda: line.is_lost)


async def test_replies_come_in_order(lines):
    assert await lines.exchange(("SET", "a", b"\x00\r\n" * 40_000), ("STRLEN", "a"), ("GET", "none")) == [
        b"OK",
        120_000,
        None,
    ]
    assert await lines.exchange() == []


async def test_a_refusal_is_a_reply(lines):
    """What is refused stands in its place, and the commands beside it are carried out."""
    lost = ("EVAL", "return redis.error_reply('LOST it all')", 0)
    got = await lines.exchange(("SET", "a", 1), ("INCR",), ("EVALSHA", _NO_SUCH_SCRIPT, 0), lost, ("INCR", "a"))
    assert [type(reply) for reply in got] == [bytes, ResponseError, NoScriptError, QueueLost, int]
    with pytest.raises(NoScriptError):
        await lines.ask(("GET", "a"), ("EVALSHA", _NO_SUCH_SCRIPT, 0))
    assert len(lines._idle) == 1


async def test_exchanges_at_once_have_a_line_each(lines):
    got = await asyncio.gather(*(lines.ask(("ECHO", number)) for number in range(20)))
    assert got == [[str(number).encode()] for number in range(20)]
    assert len(lines._idle) == 20


async def test_a_line_that_was_cut_while_idle_is_replaced(redis, lines):
    await cut(redis, lines)
    assert await lines.ask(("PING",)) == [b"PONG"]
    assert len(lines._idle) == 1


async def test_all_idle_lines_may_have_been_cut(redis, lines):
    """Each gives its place in the pool back, or a queue that restarted twice would find none left."""
    for _ in range(4):
        await asyncio.gather(*(lines.ask(("PING",)) for _ in range(20)))
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: all(line.is_lost for line in lines._idle))
    assert await lines.ask(("PING",)) == [b"PONG"]


async def test_a_line_that_is_cut_while_asked_fails_it(redis, lines):
    (number,) = await lines.ask(("CLIENT", "ID"))
    asked = asyncio.create_task(lines.ask(("BLPOP", "nothing", 0)))
    await asyncio.sleep(0)
    await redis.execute_command("CLIENT", "KILL", "ID", number)
    with pytest.raises(StoreError):
        await asked
    assert lines._idle == []


async def test_who_gives_up_leaves_no_reply_to_others(redis, lines):
    """The reply to a cancelled exchange may still come: never on a line that others use."""
    asked = asyncio.create_task(lines.ask(("BLPOP", "list", 0)))

    async def is_blocked():
        return (await redis.info("clients"))["blocked_clients"] > 0

    await until(is_blocked)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await redis.rpush("list", "late")
    assert await lines.ask(("ECHO", "mine")) == [b"mine"]


async def test_a_closed_client_closes_its_lines(settings):
    client = redis_async(settings, timeout=5)
    lines = Lines(client)
    await lines.ask(("PING",))
    async with asyncio.timeout(5):
        await client.aclose()
    (line,) = lines._idle
    assert line.is_lost


class Peer(LoopbackServer):
    """Takes every greeting, and `says` to each PING."""

    port = 0
    says = b""
    resets = False  # whether it resets the connection behind the first reply

    async def converse(self, reader, writer):
        try:
            while octets := await reader.read(65_536):
                writer.write(self.says if b"PING" in octets else b"+OK\r\n" * octets.count(b"*"))
                await writer.drain()
                if self.resets and b"PING" in octets:
                    linger = struct.pack("ii", 1, 0)  # RST in place of FIN
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
        finally:
            writer.transport.abort()


@pytest.fixture
async def peer():
    async with Peer() as peer:
        yield peer


@pytest.fixture
async def to_peer(peer, settings):
    elsewhere = settings.model_copy(update={"redis_url": type(settings.redis_url)(f"redis://127.0.0.1:{peer.port}/0")})
    client = redis_async(elsewhere, timeout=0.3)
    yield Lines(client)
    await client.aclose()


async def test_silence_is_a_timeout(peer, to_peer):
    with pytest.raises(TimeoutError):
        await to_peer.ask(("PING",))
    assert to_peer._idle == []
    peer.says = b"+PONG\r\n"
    for _ in range(3):  # longer than the limit together, and none of them alone
        assert await to_peer.ask(("PING",)) == [b"PONG"]
        (line,) = to_peer._idle
        await until(lambda: line._timer is None)  # it rang, and nobody waited  # noqa: B023
    assert await to_peer.ask(("PING",)) == [b"PONG"]  # whose timer rings within the next exchange, too early for it
    peer.says = b""
    with pytest.raises(TimeoutError):
        await to_peer.ask(("PING",))


@pytest.mark.parametrize("says", [b"no reply at all\r\n", b"+PONG\r\n+PONG\r\n", b"-LOADING the dataset\r\n"])
async def test_what_is_no_reply_ends_the_line(peer, to_peer, says):
    """Garbage, more than was asked for, and a queue that cannot be asked yet."""
    peer.says = says
    with pytest.raises(StoreError):
        await to_peer.ask(("PING",))
    assert to_peer._idle == []
    peer.says = b"+PONG\r\n"
    assert await to_peer.ask(("PING",)) == [b"PONG"]


async def test_a_reset_is_noticed(peer, to_peer):
    """A connection that ended with a reset, and not with a goodbye, is not used again."""
    peer.says, peer.resets = b"+PONG\r\n", True
    assert await to_peer.ask(("PING",)) == [b"PONG"]
    (line,) = to_peer._idle
    await until(lambda: line.is_lost)
    peer.resets = False
    assert await to_peer.ask(("PING",)) == [b"PONG"]
