"""SMTP submission on the real acceptor, the real policy and a real Valkey."""

import asyncio
import gc
import smtplib
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import pytest

from nightmail.roles.accepting import Parts, accepting
from outbox.journal import Journal
from outbox.policy_store import PolicyStore
from outbox.states import State
from runtime.connections import StoreError
from runtime.settings import Settings
from smtp.server import SubmissionServer
from tests.fixtures.valkey import ValkeyServer
from tests.fixtures.waiting import until


@dataclass(frozen=True)
class Submission:
    """A running SMTP process, less the process."""

    server: SubmissionServer
    parts: Parts
    store: PolicyStore
    settings: Settings

    async def key(self) -> str:
        """A new key's token, once the policy knows it."""
        _, token = await self.store.create_key("smtp")
        await self.parts.policy.refresh()
        return token

    async def send(self, token: str, *messages: EmailMessage) -> None:
        """By smtplib and implicit TLS, in one session."""
        await asyncio.to_thread(self._send, token, messages)

    def _send(self, token: str, messages: tuple[EmailMessage, ...]) -> None:
        trust = ssl.create_default_context(cafile=str(self.settings.data_dir / "tls" / "smtp.crt"))
        with smtplib.SMTP_SSL("localhost", self.server.smtps_port, context=trust, timeout=20) as client:
            client.login("resend", token)
            for message in messages:
                client.send_message(message)


@asynccontextmanager
async def running(settings: Settings):
    settings = settings.model_copy(update={"smtp_port": 0, "smtps_port": 0})
    async with accepting(settings, "smtp") as parts:
        server = SubmissionServer(settings, acceptor=parts.acceptor, policy=parts.policy, ratelimiter=parts.ratelimiter)
        await server.start()
        try:
            yield Submission(server, parts, PolicyStore(parts.redis, settings), settings)
        finally:
            await server.stop()


def a_mail(number: int = 1, **headers: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ann <ann@sender.example>"
    message["To"] = f"bob{number}@dest.example"
    message["Subject"] = f"Number {number}"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content("Hello\n.\n")
    return message


def journalled(folder: Path) -> set[str]:
    journal = Journal(folder / "journal" / "smtp-1")
    return {m["id"] for _, header, _ in journal.replay() for m in header.get("messages", ())}


async def test_a_message_is_queued_and_journalled_before_the_250(settings: Settings):
    """What smtplib saw accepted is in the queue, with its envelope and its octets, and in the journal."""
    async with running(settings) as smtp:
        await smtp.send(await smtp.key(), a_mail(1, Bcc="carol@hidden.example"), a_mail(2))
        views = await smtp.parts.outbox.newest(limit=10)
        first = next(view for view in views if view.message.subject == "Number 1")
        assert [r.address for r in first.message.recipients] == ["bob1@dest.example", "carol@hidden.example"]
        assert set(first.states) == {State.QUEUED}
        full = await smtp.parts.outbox.find(first.message.id, content=True)
        assert full is not None
        assert full.content is not None
        assert full.content.endswith(b"\r\nHello\r\n.\r\n")
        assert b"carol" not in full.content
    assert journalled(settings.data_dir) == {view.message.id for view in views}
    assert len(views) == 2


async def test_an_idempotency_key_sends_once_over_sessions(settings: Settings):
    """A second session with the same key and message adds nothing; another message under the key is refused."""
    async with running(settings) as smtp:
        token = await smtp.key()
        for _ in range(2):
            await smtp.send(token, a_mail(Resend_Idempotency_Key="order-17"))
        with pytest.raises(smtplib.SMTPDataError) as caught:
            await smtp.send(token, a_mail(2, Resend_Idempotency_Key="order-17"))
        assert caught.value.smtp_code == 550
        assert len(await smtp.parts.outbox.newest(limit=10)) == 1


async def test_a_revoked_key_is_refused_within_a_second(settings: Settings):
    """The policy hears of the revocation by itself."""
    async with running(settings) as smtp:
        token = await smtp.key()
        await smtp.send(token, a_mail())
        (key,) = await smtp.store.list_keys()
        await smtp.store.revoke_key(key.id)

        async def is_refused() -> bool:
            try:
                await smtp.send(token)
            except smtplib.SMTPAuthenticationError as refusal:
                return refusal.smtp_code == 535
            return False

        await until(is_refused, seconds=5)


async def test_accepting_goes_on_while_the_queue_is_away(settings: Settings, tmp_path: Path):
    """With Valkey killed messages are taken into the journal; when it is back it has them all."""
    with ValkeyServer(tmp_path / "valkey") as valkey:
        url = type(settings.redis_url)(valkey.url())
        async with running(settings.model_copy(update={"redis_url": url})) as smtp:
            token = await smtp.key()
            await smtp.send(token, a_mail(1))
            await asyncio.to_thread(valkey.kill)
            await smtp.send(token, *(a_mail(number) for number in range(2, 12)))
            smtp.parts.policy._refreshed_at = float("-inf")  # as if the queue had been away for long
            with pytest.raises(smtplib.SMTPAuthenticationError) as blind:
                await smtp.send("re_unknown_key")
            assert blind.value.smtp_code == 454
            await asyncio.to_thread(valkey.start)

            async def all_queued() -> bool:
                try:
                    return len(await smtp.parts.outbox.newest(limit=100)) == 11
                except StoreError:
                    return False

            await until(all_queued)


async def test_messages_and_connections_leave_no_cycles(settings: Settings):
    """The cycle collector looks seldom, so what a message and its connection leave behind must go by itself."""
    async with running(settings) as smtp:
        token = await smtp.key()
        await smtp.send(token, a_mail(1))
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await smtp.send(token, a_mail(2), a_mail(3))
            gc.collect()
            left = {type(found) for found in gc.garbage if type(found).__module__.startswith(("smtp.", "outbox."))}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
    assert not left
