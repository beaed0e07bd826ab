"""SMTP says no before the content is sent, with codes that let the client keep its mail."""

import asyncio

import pytest

from outbox.errors import Full, Overloaded, Unavailable
from tests.unit.smtp.conftest import client, open_place, place
from tests.unit.smtp.dialogue import MAIL

__all__ = ["client", "open_place", "place"]


@pytest.mark.parametrize(
    ("refusal", "reply"),
    [
        (Full("disk"), "452 4.3.1 "),  # RFC 3463: mail system full
        (Overloaded("line"), "451 4.3.2 "),  # RFC 3463: system not accepting network messages
        (Unavailable("no store"), "451 4.3.0 "),
    ],
)
async def test_mail_is_refused_at_its_first_command(place, client, refusal, reply):
    """The session goes on, and with room again the same client is served."""
    place.acceptor.full = refusal
    assert (await client.say(b"MAIL FROM:<ann@sender.example>\r\n")).startswith(reply)
    place.acceptor.full = None
    await client.to_data()
    assert (await client.say(MAIL + b".\r\n")).startswith("250 ")


@pytest.mark.parametrize(("refusal", "reply"), [(Full("disk"), "452 4.3.1 "), (Overloaded("line"), "451 4.3.2 ")])
async def test_what_changed_since_is_said_at_the_dot(place, client, refusal, reply):
    """Room that was there at MAIL may be gone at the dot."""
    await client.to_data()
    place.acceptor.fault = refusal
    assert (await client.say(MAIL + b".\r\n")).startswith(reply)


async def test_the_dot_waits_for_a_place(place, client):
    """A short wait is not worth a refusal."""
    await client.to_data()
    door = place.acceptor.door
    for _ in range(place.settings.accept_places):
        await door.enter()
    reply = asyncio.create_task(client.say(MAIL + b".\r\n"))
    done, _ = await asyncio.wait([reply], timeout=0.1)
    assert not done
    door.leave()
    assert (await reply).startswith("250 ")
