"""The client for strangers' URLs, against real servers on loopback."""

import asyncio
import socket
import ssl
import threading

import pytest

from runtime import clock
from runtime.networks import parse_networks
from runtime.outside import _LOOKUPS, Outside, Refused, Unreachable
from smtp.tls import server_context
from tests.fixtures.receiver import SILENCE, Receiver, answer
from tests.fixtures.waiting import until

LOOPBACK = parse_networks("127.0.0.0/8")


@pytest.fixture
async def receiver():
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def outside():
    outside = Outside(LOOPBACK)
    yield outside
    await outside.close()


def post(client, url, **options):
    known = {"headers": {"x-a": "b"}, "content": b"{}", "most": 100, "seconds": 5}
    return client.ask("POST", url, **known | options)


@pytest.fixture
def names(monkeypatch):
    """What the DNS says in this test; other names go to the real resolver."""
    book = {}
    ask = socket.getaddrinfo
    asked = []

    def getaddrinfo(host, port, *args, **options):
        if host not in book:
            return ask(host, port, *args, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in book[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    book["asked"] = asked
    return book


async def test_a_post_arrives_as_it_was_made(outside, receiver):
    """Method, path, query, headers and body; and the answer comes back."""
    receiver.says = answer(201, b"thanks", x_said="yes")
    got = await post(outside, receiver.url("/in?x=1#frag"))
    (seen,) = receiver.requests
    assert (seen.target, seen.headers["x-a"], seen.body) == ("/in?x=1", "b", b"{}")
    assert seen.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert (got.status, got.body, got.whole, got.headers["x-said"]) == (201, b"thanks", True, "yes")


async def test_without_the_setting_loopback_is_refused(receiver):
    """Nothing is even connected to."""
    outside = Outside()
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(Refused):
            await post(outside, receiver.url(host=host))
    await outside.close()
    assert not receiver.requests


async def test_one_private_address_among_public_ones_refuses_the_name(outside, receiver, names):
    """A name is as bad as its worst address."""
    names["mixed.test"] = ["127.0.0.1", "10.0.0.1"]
    with pytest.raises(Refused):
        await post(outside, receiver.url(host="mixed.test"))
    assert not receiver.requests


async def test_the_name_is_looked_up_once_and_told_to_the_server(outside, receiver, names):
    """A DNS that changes its mind between check and connection changes nothing; Host is the name."""
    names["rebind.test"] = ["127.0.0.1"]
    await post(outside, receiver.url(host="rebind.test"))
    assert names["asked"] == ["rebind.test"]
    assert receiver.requests[0].headers["host"] == f"rebind.test:{receiver.port}"


@pytest.mark.parametrize("host", ["BÜCHER.test", "bücher.test"])
async def test_a_name_in_other_letters_is_asked_by_its_a_label(outside, receiver, names, host):
    """In capitals too (RFC 3490); the port stays."""
    names["xn--bcher-kva.test"] = ["127.0.0.1"]
    await post(outside, receiver.url("/a?b=c#d", host=host))
    assert receiver.requests[0].headers["host"] == f"xn--bcher-kva.test:{receiver.port}"
    assert receiver.requests[0].target == "/a?b=c"


async def test_redirects_are_not_followed(outside, receiver):
    """The answer is the redirect itself."""
    receiver.says = answer(302, location="http://169.254.169.254/latest/meta-data/")
    assert (await post(outside, receiver.url())).status == 302
    assert len(receiver.requests) == 1


async def test_a_large_answer_is_cut(outside, receiver):
    """No more is kept than was asked for, and the caller can tell."""
    receiver.says = answer(200, b"x" * 5_000_000)
    got = await post(outside, receiver.url())
    assert (len(got.body), got.whole) == (100, False)


@pytest.mark.parametrize("said", [SILENCE, b"220 smtp.test ESMTP\r\n", b"HTTP/1.1 200 OK\r\ncontent-le"])
async def test_no_answer_in_time_or_no_http(outside, receiver, said):
    """A server that hangs, speaks another language, or stops in the middle."""
    receiver.says = said
    with pytest.raises(Unreachable):
        await post(outside, receiver.url(), seconds=0.3)


async def test_nobody_there(outside):
    """A closed port, and a name that does not exist."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable):
            await post(outside, f"http://127.0.0.1:{taken.getsockname()[1]}/")
    with pytest.raises(Unreachable):
        await post(outside, "http://nobody.invalid/")


async def test_look_ups_that_hang_hold_up_nothing_else(outside, monkeypatch):
    """However many hang, the threads of the event loop are free, and closing waits for none of them."""
    answered = threading.Event()
    hanging = []

    def getaddrinfo(host, *_, **__):
        hanging.append(host)
        answered.wait(60)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    asking = [asyncio.create_task(post(outside, f"http://slow{n}.test/", seconds=60)) for n in range(40)]
    try:
        await until(lambda: len(hanging) >= _LOOKUPS)
        async with asyncio.timeout(20):
            await asyncio.to_thread(int)
            await outside.close()
    finally:
        answered.set()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_tls_speaks_of_the_name_and_is_verified(settings, names):
    """SNI is the name although the connection goes to the address; an untrusted certificate is refused."""
    context = server_context(settings, now=clock.now())
    told = []
    context.sni_callback = lambda _socket, name, _context: told.append(name)
    names["test.nightmail.example"] = ["127.0.0.1"]
    trusting = ssl.create_default_context(cafile=settings.data_dir / "tls" / "smtp.crt")
    async with Receiver(tls=context) as receiver:
        url = receiver.url(host="test.nightmail.example")
        for outside in (Outside(LOOPBACK, trust=trusting), Outside(LOOPBACK)):
            try:
                assert (await post(outside, url)).status == 200
            except Unreachable:
                told.append("untrusted")
            await outside.close()
    assert told == ["test.nightmail.example", "test.nightmail.example", "untrusted"]
