import asyncio
import smtplib
from email.message import EmailMessage

import pytest

from tests.unit.smtp.dialogue import TOKEN, Place


def _message() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ann <ann@sender.example>"
    message["To"] = "bob@dest.example"
    message["Bcc"] = "carol@hidden.example"
    message["Subject"] = "Grüße"
    message.set_content("Hello\n.\n..\nend\n")
    return message


def _send(place: Place, *, implicit: bool) -> dict[str, tuple[int, bytes]]:
    if implicit:
        client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", place.server.smtps_port, context=place.trust, timeout=10)
    else:
        client = smtplib.SMTP("localhost", place.server.smtp_port, timeout=10)
        client.starttls(context=place.trust)
    with client:
        client.login("resend", TOKEN)
        return client.send_message(_message())


@pytest.mark.parametrize("implicit", [False, True])
async def test_smtplib_sends_by_both_ports(place: Place, *, implicit: bool):
    """The standard library's client sends by STARTTLS and by implicit TLS, and checks our certificate."""
    assert await asyncio.to_thread(_send, place, implicit=implicit) == {}
    (taken,) = place.acceptor.taken
    assert [r.address for r in taken.message.recipients] == ["bob@dest.example", "carol@hidden.example"]
    assert taken.message.subject == "Grüße"
    assert b"carol" not in taken.content
    assert taken.content.endswith(b"Hello\r\n.\r\n..\r\nend\r\n")


async def test_smtplib_is_told_when_the_key_is_wrong(place: Place):
    """A wrong key is smtplib's SMTPAuthenticationError with Resend's words."""

    def log_in() -> None:
        with smtplib.SMTP_SSL("localhost", place.server.smtps_port, context=place.trust, timeout=10) as client:
            client.login("resend", "re_wrong")

    with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
        await asyncio.to_thread(log_in)
    assert caught.value.smtp_code == 535
    assert caught.value.smtp_error == b"5.7.8 API key not found"
