import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.fixtures.next_hop import CLOSE, SILENCE, NextHop
from worker import errors
from worker.client import BLOCK
from worker.envelope import Envelope
from worker.session import Opener

from .conftest import QUICK

MAIL = Envelope("from@ours.test", ("a@one.test", "b@one.test"), b"Subject: x\r\n\r\n.hidden\r\nend\r\n")
PLAIN = ("8BITMIME",)


@asynccontextmanager
async def session(opener, hop):
    client, _ = await opener.open(hop.hop())
    try:
        yield client
    finally:
        client.abort()


async def send(client, mail=MAIL, *, before_dot=lambda: True):
    return await client.send(mail, before_dot=before_dot)


def codes(transaction):
    replies = (transaction.mail, *transaction.rcpts, transaction.data, transaction.dot)
    return [reply and reply.code for reply in replies]


@pytest.mark.parametrize("features", [("PIPELINING",), PLAIN])
async def test_message_arrives_as_it_was(opener, features):
    """Envelope and content reach the next hop unchanged, with and without PIPELINING."""
    async with NextHop(features=features) as hop, session(opener, hop) as client:
        transaction = await send(client)
    assert codes(transaction) == [250, 250, 250, 354, 250]
    assert transaction.error is None
    (received,) = hop.received
    assert received.reverse_path == MAIL.reverse_path
    assert received.recipients == list(MAIL.recipients)
    assert received.content == MAIL.content
    assert [step for step, _ in transaction.steps] == ["mail", "rcpt", "data", "dot"]


async def test_pipelining_needs_two_round_trips(opener):
    """With PIPELINING, MAIL, all RCPTs and DATA are sent without waiting for a reply (RFC 2920)."""
    seen = []
    hop = NextHop()
    hop.answers["MAIL"] = lambda _: SILENCE
    async with hop, session(opener, hop) as client:
        hop.answers["MAIL"] = lambda _: seen.append(len(hop.lines)) or "250 ok"
        hop.answers["DATA"] = lambda _: seen.append(len(hop.lines)) or "354 go ahead"
        await send(client)
    assert seen == [2, 5]  # EHLO, MAIL; then RCPT, RCPT, DATA


async def test_connection_is_used_again_without_rset(opener):
    """Ten messages go over one connection, and RSET is sent only where a transaction was left open."""
    async with NextHop() as hop, session(opener, hop) as client:
        for _ in range(10):
            assert (await send(client)).dot.code == 250
    assert hop.connections == 1
    assert len(hop.received) == 10
    assert "RSET" not in hop.lines


@pytest.mark.parametrize("features", [("PIPELINING",), PLAIN])
async def test_an_open_transaction_is_reset_before_the_next(opener, features):
    """After all recipients were refused, the next message starts with RSET on the same connection."""
    async with NextHop({"RCPT": "550 5.1.1 no"}, features=features) as hop, session(opener, hop) as client:
        refused = await send(client)
        assert [reply.code for reply in refused.rcpts] == [550, 550]
        assert refused.dot is None
        assert client.usable
        hop.answers.clear()
        assert (await send(client)).dot.code == 250
    assert hop.lines.count("RSET") == 1
    assert hop.connections == 1


@pytest.mark.parametrize("features", [("PIPELINING",), PLAIN])
async def test_mixed_recipients_get_their_own_replies(opener, features):
    """A refused recipient does not keep the others from their mail."""
    answers = {"RCPT": lambda line: "550 5.1.1 no" if "b@" in line else "250 ok"}
    async with NextHop(answers, features=features) as hop, session(opener, hop) as client:
        transaction = await send(client)
    assert codes(transaction) == [250, 250, 550, 354, 250]
    assert hop.received[0].recipients == ["a@one.test"]


async def test_a_354_without_recipients_is_ended_by_a_lone_dot(opener):
    """A server that asks for content though it refused everyone gets a dot and nothing else (RFC 2920 section 3.1)."""
    answers = {"RCPT": "450 4.2.0 later", "DATA": "354 go ahead", "dot": "554 5.5.1 no valid recipients"}
    async with NextHop(answers) as hop, session(opener, hop) as client:
        transaction = await send(client)
        assert [reply.code for reply in transaction.rcpts] == [450, 450]
        assert transaction.dot is None
        assert not transaction.in_doubt
        hop.answers.clear()
        assert (await send(client)).dot.code == 250
    assert hop.connections == 1


async def test_mail_refused_leaves_the_connection_usable(opener):
    """A refused MAIL is the transaction's end, not the connection's."""
    async with NextHop({"MAIL": "451 4.3.0 later", "RCPT": "503 no"}) as hop, session(opener, hop) as client:
        assert (await send(client)).mail.code == 451
        hop.answers.clear()
        assert (await send(client)).dot.code == 250
    assert hop.connections == 1


@pytest.mark.parametrize(
    ("answers", "error", "in_doubt"),
    [
        ({"MAIL": CLOSE}, errors.ConnectionLost, False),
        ({"RCPT": CLOSE}, errors.ConnectionLost, False),
        ({"DATA": CLOSE}, errors.ConnectionLost, False),
        ({"dot": CLOSE}, errors.ConnectionLost, True),
        ({"MAIL": "hello"}, errors.Garbled, False),
        ({"RCPT": "HTTP/1.1 400 Bad Request"}, errors.Garbled, False),
        ({"dot": "what?"}, errors.Garbled, True),
        ({"dot": "250-" + "x" * 4000}, errors.Garbled, True),
        ({"dot": "250-more\r\n" * 9000}, errors.Garbled, True),
        ({"MAIL": "354 out of step"}, errors.Garbled, False),
        ({"DATA": "250 out of step"}, errors.Garbled, False),
        ({"dot": "354 out of step"}, errors.Garbled, True),
        ({"MAIL": "250 ok\r\n" * 400}, errors.Garbled, False),
    ],
)
@pytest.mark.parametrize("features", [("PIPELINING",), PLAIN])
async def test_a_misbehaving_server_costs_the_connection(opener, answers, error, in_doubt, features):
    """What is no reply, or comes out of step, or does not come, ends the connection and says how far it came."""
    async with NextHop(answers, features=features) as hop, session(opener, hop) as client:
        transaction = await send(client)
        assert isinstance(transaction.error, error)
        assert transaction.in_doubt is in_doubt
        assert transaction.dot is None
        assert not client.usable


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize("features", [("PIPELINING",), PLAIN])
async def test_421_is_the_last_word_on_a_connection(opener, verb, features):
    """A 421 is the reply to its command, and the end of the connection (RFC 5321 section 3.8). Nothing is in doubt."""
    async with NextHop({verb: "421 4.3.2 shutting down"}, features=features) as hop, session(opener, hop) as client:
        transaction = await send(client)
        assert 421 in codes(transaction)
        assert not transaction.in_doubt
        assert not client.usable


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "dot"])
async def test_a_silent_server_runs_into_the_timeout_of_its_step(trusting, verb):
    """Silence ends in StepTimeout, and the connection is never used again: a late reply would be taken for another."""
    step = {"MAIL": "mail", "RCPT": "rcpt", "DATA": "data", "dot": "dot"}[verb]
    opener = Opener("client.test", tls=trusting, timeouts=replace(QUICK, **{step: 0.05}))
    async with NextHop({verb: SILENCE}) as hop, session(opener, hop) as client:
        transaction = await send(client)
        assert isinstance(transaction.error, errors.StepTimeout)
        assert isinstance(transaction.error, TimeoutError)
        assert transaction.in_doubt is (verb == "dot")
        assert not client.usable


async def test_a_transaction_has_a_longest_time(trusting):
    """Fifty slow recipients cannot hold a connection for hours."""
    opener = Opener("client.test", tls=trusting, timeouts=replace(QUICK, transaction=0.05))
    async with NextHop({"RCPT": SILENCE}) as hop, session(opener, hop) as client:
        assert isinstance((await send(client)).error, errors.StepTimeout)


@pytest.mark.parametrize("size", [10, BLOCK, 3 * BLOCK + 7])
async def test_a_lost_lease_cuts_the_connection_before_the_dot(opener, size):
    """`before_dot` is asked once, at the end; on False the next hop never sees the final dot."""
    asked = []
    mail = replace(MAIL, content=b"x" * size + b"\r\n")
    async with NextHop() as hop, session(opener, hop) as client:
        transaction = await send(client, mail, before_dot=lambda: asked.append(1))
        assert isinstance(transaction.error, errors.LeaseLost)
        assert not transaction.in_doubt
        assert not client.usable
    assert asked == [1]
    assert hop.received == []


async def test_large_content_arrives(opener):
    """Content far above the write buffer is sent block by block and arrives whole."""
    content = b"".join(b".%d %s\r\n" % (n, b"x" * 70) for n in range(20_000))
    async with NextHop() as hop, session(opener, hop) as client:
        transaction = await send(client, replace(MAIL, content=content))
    assert transaction.error is None
    assert hop.received[0].content == content


async def test_a_server_that_stops_reading_runs_into_the_block_timeout(trusting):
    """A server that takes no more content does not hold the channel."""
    opener = Opener("client.test", tls=trusting, timeouts=replace(QUICK, block=0.05))
    stuck = asyncio.Event()

    async def serve(reader, writer):
        writer.write(b"220 x\r\n")
        await reader.readline()
        writer.write(b"250-x\r\n250 PIPELINING\r\n")
        for _ in range(4):
            await reader.readline()
        writer.write(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go ahead\r\n")
        await stuck.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client, _ = await opener.open(NextHop(port=server.sockets[0].getsockname()[1]).hop())
    transaction = await send(client, replace(MAIL, content=b"x" * 30_000_000))
    assert isinstance(transaction.error, errors.StepTimeout)
    assert not transaction.in_doubt
    stuck.set()
    server.close()
    await server.wait_closed()


async def test_a_dead_idle_connection_is_known_to_be_dead(opener):
    """A server that says 421 or closes between two messages leaves a client that is not usable."""
    async with NextHop() as hop, session(opener, hop) as client:
        await send(client)
        for task in hop._tasks:
            task.cancel()
        async with asyncio.timeout(5):
            while client.usable:
                await asyncio.sleep(0.001)
        assert isinstance((await send(client)).error, errors.ConnectionLost)


async def test_a_cancelled_transaction_never_leaves_a_usable_connection(opener):
    """Cancelling a send cuts the connection: its replies would be taken for another message's."""
    hop = NextHop({"dot": SILENCE})
    async with hop, session(opener, hop) as client:
        task = asyncio.create_task(send(client))
        async with asyncio.timeout(5):
            while "." not in hop.lines:
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not client.usable


async def test_an_unwritable_address_is_refused_here(opener):
    """An address that could smuggle a command never reaches the wire; the others do."""
    mail = replace(MAIL, recipients=("a@one.test", "b@one.test>\r\nDATA"))
    async with NextHop() as hop, session(opener, hop) as client:
        transaction = await send(client, mail)
    assert codes(transaction) == [250, 250, 553, 354, 250]
    assert hop.received[0].recipients == ["a@one.test"]


async def test_what_the_server_cannot_take_says_nothing_to_it(opener):
    """A message over SIZE, or in need of a missing SMTPUTF8, leaves the connection as it was."""
    async with NextHop(features=("PIPELINING", "SIZE 100")) as hop, session(opener, hop) as client:
        assert isinstance((await send(client, replace(MAIL, content=b"x" * 101))).error, errors.TooLarge)
        assert isinstance((await send(client, replace(MAIL, smtputf8=True))).error, errors.Smtputf8Missing)
        assert (await send(client)).dot.code == 250
    assert hop.connections == 1


NEXT = replace(MAIL, reverse_path="next@ours.test", content=b"Subject: y\r\n\r\nnext\r\n")


async def test_the_next_message_is_announced_behind_the_dot(opener):
    """A run of messages costs one round trip each; until the announced one is sent, the connection is for it alone."""
    async with NextHop() as hop, session(opener, hop) as client:
        first = await client.send(MAIL, before_dot=lambda: True, following=NEXT)
        assert (first.error, client.usable, client.ready(NEXT), client.ready(MAIL)) == (None, False, True, False)
        async with asyncio.timeout(5):
            while hop.lines[-1] != "DATA" or hop.lines.count("DATA") < 2:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)  # for the replies to arrive
        second = await send(client, NEXT)
        assert client.usable
    assert codes(first) == codes(second) == [250, 250, 250, 354, 250]
    assert [step for step, _ in first.steps] == ["mail", "rcpt", "data", "dot"]
    assert [step for step, _ in second.steps] == ["dot"]  # nothing else took time of its own
    assert [r.reverse_path for r in hop.received] == [MAIL.reverse_path, NEXT.reverse_path]
    assert [r.content for r in hop.received] == [MAIL.content, NEXT.content]


async def test_an_announced_message_whose_lease_is_lost_never_arrives(opener):
    """What was announced is not sent for that: before its own dot its lease is asked, and the connection cut."""
    async with NextHop() as hop, session(opener, hop) as client:
        await client.send(MAIL, before_dot=lambda: True, following=NEXT)
        transaction = await send(client, NEXT, before_dot=lambda: False)
    assert isinstance(transaction.error, errors.LeaseLost)
    assert not transaction.in_doubt
    assert [r.reverse_path for r in hop.received] == [MAIL.reverse_path]


async def test_an_announced_message_that_is_refused_costs_nobody_else(opener):
    """Its recipients are refused, the connection stays, and the next transaction begins with RSET."""
    hop = NextHop()
    async with hop, session(opener, hop) as client:
        hop.answers["dot"] = lambda _: hop.answers.update(RCPT="550 5.1.1 no such user") or "250 ok"
        await client.send(MAIL, before_dot=lambda: True, following=NEXT)
        refused = await send(client, NEXT)
        assert codes(refused) == [250, 550, 550, 554, None]
        hop.answers.clear()
        assert client.usable
        assert codes(await send(client)) == [250, 250, 250, 354, 250]
    assert "RSET" in hop.lines


async def test_nothing_is_announced_without_pipelining_or_to_a_server_that_cannot_take_it(opener):
    """The message that follows then waits for its turn, and the connection is good for any."""
    for features, following in ((PLAIN, NEXT), (("PIPELINING", "SIZE 100"), replace(NEXT, content=b"x" * 200))):
        async with NextHop(features=features) as hop, session(opener, hop) as client:
            await client.send(MAIL, before_dot=lambda: True, following=following)
            assert client.usable
            assert hop.lines.count("DATA") == 1
