import asyncio
import resource
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import uvloop

from outbox.ratelimit import RateLimiter
from runtime.settings import Settings
from smtp import connection as connection_module
from smtp import server as server_module
from smtp.server import SubmissionServer
from tests.fixtures.waiting import until
from tests.unit.smtp.conftest import Opener
from tests.unit.smtp.dialogue import MAIL, Dialogue, Place, RememberingAcceptor, RememberingPolicy


def resident_bytes() -> int:
    """Memory of this process in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_connections_are_limited_by_host(open_place: Opener):
    """One address has so many connections and no more; a closed one makes room."""
    place = await open_place(smtp_max_connections_per_host=2)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await place.plain_client()) for _ in range(2)]
        for client in clients:
            assert (await client.reply()).startswith("220 ")
        async with await place.plain_client() as late:
            assert (await late.reply()).startswith("421 4.7.0 ")
            assert await late.is_closed()
        with pytest.raises(OSError):  # the port of implicit TLS closes without a handshake
            await place.client()
        assert (await clients[0].say(b"QUIT\r\n")).startswith("221 ")
        await until(lambda: place.server._connections._by_source.total() == 1)
        async with await place.client() as again:
            await again.log_in()


async def test_connections_are_limited_in_total(open_place: Opener):
    """The process has so many connections and no more, those in a TLS handshake counted."""
    place = await open_place(smtp_max_connections=1)
    async with await Dialogue.open(place.server.smtps_port):
        await until(lambda: place.server._connections._by_source.total() == 1)
        async with await place.plain_client() as late:
            assert (await late.reply()).startswith("421 4.3.2 ")
    async with AsyncExitStack() as stack:
        await until(lambda: not place.server._connections._by_source)
        client = await stack.enter_async_context(await place.plain_client())
        assert (await client.reply()).startswith("220 ")


async def test_silence_ends_with_421(open_place: Opener):
    """A client that says nothing is told 421 4.4.2 before the connection is closed."""
    place = await open_place(smtp_timeout=0.2)
    async with await place.plain_client() as client:
        await client.reply()
        assert (await client.reply()).startswith("421 4.4.2 ")
        assert await client.is_closed()


async def test_silence_in_data_ends_with_421(open_place: Opener):
    """So is one that stops in the middle of its message, which is not taken."""
    place = await open_place(smtp_timeout=1)
    async with await place.client() as client:
        await client.log_in()
        await client.to_data()
        await client.send(MAIL)
        assert (await client.reply()).startswith("421 4.4.2 ")
    assert place.acceptor.taken == []


async def test_a_silent_handshake_ends(open_place: Opener):
    """Who connects to the port of implicit TLS and says nothing is dropped in time."""
    place = await open_place(smtp_timeout=0.2)
    async with await Dialogue.open(place.server.smtps_port) as client:
        assert await client.is_closed()
    await until(lambda: not place.server._welcomes)


async def _in_mid_append(place, client):
    """The client's session, once its mail is on its way into the stores and held up there."""
    await client.log_in()
    await client.to_data()
    await client.send(MAIL + b".\r\n")
    await place.acceptor.begun.wait()
    (session,) = place.server._welcomes.values()
    return session


async def test_our_own_slowness_is_no_silence(open_place: Opener):
    """While we append the client waits for us, and the idle time does not count."""
    place = await open_place(smtp_timeout=5)
    place.acceptor.gate = asyncio.Event()
    async with await place.client() as client:
        session = await _in_mid_append(place, client)
        session._heard_at -= 10  # as if that much time had passed
        session._keep_time()
        place.acceptor.gate.set()
        assert (await client.reply()).startswith("250 ")


async def test_the_idle_time_begins_anew_after_an_append(open_place: Opener):
    """The client could say nothing meanwhile, so that what our append took is not counted against it."""
    place = await open_place(smtp_timeout=60)
    place.acceptor.gate = asyncio.Event()
    async with await place.client() as client:
        session = await _in_mid_append(place, client)
        session._heard_at -= 100
        place.acceptor.gate.set()
        assert (await client.reply()).startswith("250 ")
        session._keep_time()
        assert (await client.say(b"NOOP\r\n")).startswith("250 ")


async def test_a_command_that_drips_is_silence(open_place: Opener):
    """Octets that make no whole line do not begin the idle time anew."""
    place = await open_place(smtp_timeout=60)
    async with await place.plain_client() as client:
        await client.reply()
        (session,) = place.server._welcomes.values()
        session._heard_at -= 100  # as if that much time had passed
        await client.send(b"NOO")
        await until(lambda: session._heard == b"NOO")
        session._keep_time()
        assert (await client.reply()).startswith("421 4.4.2 ")


@pytest.mark.parametrize(("octets", "is_borne"), [(1_000, False), (1_000_000, True)])
async def test_content_has_a_slowest_rate(open_place: Opener, octets: int, is_borne: bool):  # noqa: FBT001
    """A message that drips is cut off however steadily, one that a very slow line brings is not."""
    place = await open_place(smtp_timeout=60)
    async with await place.client() as client:
        await client.log_in()
        await client.to_data()
        (session,) = place.server._welcomes.values()
        session._content_since -= 400  # as if that much time had passed
        await client.send(MAIL + b"x\r\n" * (octets // 3))
        await until(lambda: session._content.size >= octets)
        session._keep_time()
        assert (await client.say(b".\r\n")).startswith("250 " if is_borne else "421 4.4.2 Message comes too slowly")


async def test_an_append_survives_the_clients_half_close(place: Place):
    """A client that has said all it has to say still gets its answers."""
    place.acceptor.gate = asyncio.Event()
    # Half-closing needs a connection without TLS, where nobody may send: hand the session its login.
    async with await place.plain_client() as client:
        await client.reply()
        (session,) = place.server._welcomes.values()
        session.is_encrypted, session._key, session._token = True, place.policy.key, "re_wrong"
        place.policy.authenticate = lambda _token: place.policy.key
        await client.to_data()
        await client.send(MAIL + b".\r\nNOOP\r\n")
        client.writer.write_eof()
        await place.acceptor.begun.wait()
        await asyncio.sleep(0)
        place.acceptor.gate.set()
        assert (await client.reply()).startswith("250 2.0.0 Ok: queued as ")
        assert (await client.reply()).startswith("250 2.0.0 Ok")
        assert await client.is_closed()
    assert len(place.acceptor.taken) == 1


async def test_an_append_survives_the_clients_end(place: Place):
    """A client that vanishes after its dot does not stop the append, and takes nobody else with it."""
    place.acceptor.gate = asyncio.Event()
    client = await place.client()
    await client.log_in()
    await client.to_data()
    await client.send(MAIL + b".\r\n")
    await place.acceptor.begun.wait()
    client.writer.transport.abort()
    (session,) = place.server._welcomes.values()
    await until(lambda: session.transport is None)
    place.acceptor.gate.set()
    await until(lambda: not place.server._welcomes)
    assert len(place.acceptor.taken) == 1


async def test_stop_says_goodbye_and_finishes_what_is_under_way(place: Place):
    """On stop idle clients hear 421 4.3.2 at once, one whose message is under way its 250 first."""
    place.acceptor.gate = asyncio.Event()
    async with await place.client() as idle, await place.client() as busy:
        await idle.log_in()
        await busy.log_in()
        await busy.to_data()
        await busy.send(MAIL + b".\r\n")
        await place.acceptor.begun.wait()
        stopping = asyncio.create_task(place.server.stop())
        assert (await idle.reply()).startswith("421 4.3.2 ")
        assert await idle.is_closed()
        with pytest.raises(OSError):
            await place.plain_client()
        assert not stopping.done()
        place.acceptor.gate.set()
        assert (await busy.reply()).startswith("250 ")
        assert (await busy.reply()).startswith("421 4.3.2 ")
        await stopping


async def test_stop_does_not_wait_for_ever(place: Place, monkeypatch: pytest.MonkeyPatch):
    """A client that dawdles in DATA is cut off after the grace; an append is shielded even then."""
    monkeypatch.setattr(server_module, "_GRACE", 0.05)
    place.acceptor.gate = asyncio.Event()
    async with await place.client() as dawdler, await place.client() as busy:
        for client in (dawdler, busy):
            await client.log_in()
            await client.to_data()
        await dawdler.send(MAIL)
        await busy.send(MAIL + b".\r\n")
        await place.acceptor.begun.wait()
        await place.server.stop()
        assert await dawdler.is_closed()
    place.acceptor.gate.set()
    await until(lambda: len(place.acceptor.taken) == 1)


async def test_a_port_that_is_taken_is_an_error(place: Place, open_place: Opener):
    """Two servers cannot have one address, unless both say that they share it."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
        await SubmissionServer(
            place.settings.model_copy(update={"smtp_port": taken.getsockname()[1]}),
            acceptor=place.acceptor,
            policy=place.policy,
            ratelimiter=RateLimiter(1),
        ).start()


async def test_an_endless_line_costs_no_memory(open_place: Opener):
    """An endless line is cut off, while memory grows by a few of the largest messages at most."""
    place = await open_place(max_message_bytes=1_000_000)
    async with await place.client() as client:
        await client.log_in()
        await client.to_data()
        before = peak = resident_bytes()
        with suppress(OSError):
            for _ in range(60):
                await client.send(b"x" * 1_000_000)
                peak = max(peak, resident_bytes())
                if client.reader.at_eof():
                    break
        assert peak - before < 32_000_000
        await until(lambda: not place.server._welcomes)
    assert place.server._memory.used == 0


async def test_a_client_that_does_not_read_is_dropped(open_place: Opener, monkeypatch: pytest.MonkeyPatch):
    """A connection whose last reply nobody takes is not kept open for it."""
    monkeypatch.setattr(connection_module, "_LINGER", 0.05)
    place = await open_place(smtp_timeout=0.3)
    async with await place.plain_client() as client:
        await client.reply()
        (session,) = place.server._welcomes.values()
        session.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_048)
        client.writer.transport.pause_reading()
        client.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
        await client.send(b"EHLO me\r\n" * 290)
        await until(lambda: not place.server._welcomes)
        await until(lambda: session.transport is None)


def test_it_all_works_on_uvloop(tmp_path):
    """The other event loop takes messages by both ports too, and many clients at once."""

    async def main() -> int:
        settings = Settings(data_dir=tmp_path, smtp_port=0, smtps_port=0, refuse_reserved_recipients=False)
        acceptor, policy = RememberingAcceptor(), RememberingPolicy()
        server = SubmissionServer(settings, acceptor=acceptor, policy=policy, ratelimiter=RateLimiter(1000))
        await server.start()
        place = Place(server, settings, acceptor, policy)

        async def send(number: int) -> None:
            client = await (place.client() if number % 2 else place.plain_client())
            async with client:
                if not number % 2:
                    await client.reply()
                    await client.say(b"EHLO me\r\n")
                    await client.say(b"STARTTLS\r\n")
                    await client.writer.start_tls(place.trust, server_hostname="localhost")
                    client.reader.feed_data(b"220 as greeted before\r\n")
                await client.log_in()
                await client.to_data()
                assert (await client.say(MAIL + b".\r\n")).startswith("250 ")

        await asyncio.gather(*(send(number) for number in range(20)))
        await server.stop()
        return len(acceptor.taken)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == 20
