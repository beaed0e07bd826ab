"""More requests than can be taken: a few wait, the rest hear 429 at once, and nothing is read or parsed for them."""

import asyncio
from datetime import timedelta

import httpx
import orjson
import pytest

from api import fetching
from runtime.networks import parse_networks
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.receiver import SILENCE, Receiver
from tests.fixtures.waiting import until


@pytest.fixture
async def narrow(settings):
    """A send API with one place, and one to wait in; the place can be held."""
    changes = {"accept_places": 1, "accept_waiting": 1, "accept_wait": timedelta(seconds=10), "accept_bytes": 200_000}
    async with running(settings.model_copy(update=changes), with_control=False) as api:
        yield api


async def test_the_excess_is_refused_at_once(narrow):
    """One waits and is served, the next is told to come again, before its body is looked at."""
    door = narrow.parts.acceptor.door
    async with door:
        waiting = asyncio.create_task(narrow.client.post("/emails", json=MAIL))
        await until(lambda: door.is_full)
        answer = await narrow.client.post("/emails", content=b"{")
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert answer.json() == {
            "statusCode": 429,
            "name": "rate_limit_exceeded",
            "message": "Too many requests at once. Try again later.",
        }
        assert (await narrow.client.get("/backlog")).status_code == 200, "only sending is refused"
    assert (await waiting).status_code == 200
    assert (await narrow.client.get(f"/emails/{(await waiting).json()['id']}")).status_code == 200


async def exchange(reader, writer, *pieces):
    """Send octets piece by piece; the status and body of the one answer."""
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    body = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    return int(head.split()[1]), body


@pytest.mark.parametrize("cut", ["whole", "after the head", "in the body"])
async def test_refused_at_the_socket_a_connection_goes_on(narrow, cut):
    """What is left of a refused body is not taken for the next request, and the next request is served."""
    body = orjson.dumps(MAIL)
    head = f"POST /emails HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {narrow.token}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    at = {"whole": len(request), "after the head": len(request) - len(body), "in the body": len(request) - 10}[cut]
    door = narrow.parts.acceptor.door
    host, port = narrow.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    slow_way = await narrow.client.post("/emails", content=b"{")  # warms the client, and is no refusal
    assert slow_way.status_code == 400
    async with door:
        waiting = asyncio.create_task(narrow.client.post("/emails", json=MAIL))
        await until(lambda: door.is_full)
        for _ in range(2):
            status, words = await exchange(reader, writer, request[:at], request[at:])
            assert (status, orjson.loads(words)["name"]) == (429, "rate_limit_exceeded")
    assert (await waiting).status_code == 200
    assert (await exchange(reader, writer, request[:at], request[at:]))[0] == 200
    writer.close()


async def test_slow_senders_hold_no_place(narrow):
    """A place is taken with the last octet of the body: a client that trickles keeps nobody out."""
    go_on = asyncio.Event()

    async def pieces():
        yield b'{"from": "Acme <on@acme.test>", '
        await go_on.wait()
        yield b'"to": "you@there.test", "subject": "Slow", "text": "Hi"}'

    slow = asyncio.create_task(narrow.client.post("/emails", content=pieces()))
    for _ in range(5):
        assert (await narrow.client.post("/emails", json=MAIL)).status_code == 200
    go_on.set()
    assert (await slow).status_code == 200


async def test_large_bodies_share_a_budget(narrow):
    """Octets in memory are bounded over all requests, and given back when one is over."""
    body = b'{"text": "' + b"x" * 400_000
    answer = await narrow.client.post("/emails", content=body)
    assert answer.status_code == 429
    await until(lambda: narrow.parts.acceptor.door.octets.used == 0)
    assert (await narrow.client.post("/emails", json=MAIL)).status_code == 200


async def test_a_client_that_leaves_gives_its_place_back(narrow):
    """Whatever became of the waiting one, the next is served."""
    door = narrow.parts.acceptor.door
    async with door:
        with pytest.raises(httpx.ReadTimeout):
            await narrow.client.post("/emails", json=MAIL, timeout=0.2)
    assert (await narrow.client.post("/emails", json=MAIL)).status_code == 200


async def test_a_slow_server_of_attachments_keeps_nobody_out(settings, monkeypatch):
    """Who waits for a file has no place; of those there are a few, and one more is told to come again."""
    monkeypatch.setattr(fetching, "_AT_ONCE", 1)
    changes = {"accept_places": 1, "accept_wait": timedelta(seconds=0.2)}
    settings = settings.model_copy(update=changes | {"reachable_networks": parse_networks("127.0.0.0/8")})
    async with running(settings, with_control=False) as api:
        async with Receiver(SILENCE) as receiver:
            mail = MAIL | {"attachments": [{"path": receiver.url("/a.pdf")}]}
            waiting = asyncio.create_task(api.client.post("/emails", json=mail))
            await until(lambda: receiver.requests)
            assert (await api.client.post("/emails", json=MAIL)).status_code == 200
            assert (await api.client.post("/emails", json=mail)).status_code == 429
            assert len(receiver.requests) == 1
        assert (await waiting).status_code == 503, "its server is gone"
        for _ in range(2):
            assert (await api.client.post("/emails", json=MAIL)).status_code == 200
        assert api.parts.acceptor.door._working == 0
