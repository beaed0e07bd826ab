"""Sends the demo's mails by `POST /emails`: with a key each, and again on a lost connection."""

import asyncio
import time
from typing import Self

import httpx

from nightmail.client_details import ClientDetails
from nightmail.demo.ledger import Ledger, Receipt
from runtime.cut_off import cut_off_as

_PATIENCE = 30.0  # seconds of lost connections before we give up
_PAUSE = 0.2
_CONNECTIONS = 32


def html(number: int) -> str:
    """What a mail says."""
    return f"<p>This is mail <b>{number}</b>.</p>"


class HttpSender:
    """One client with a pool of connections."""

    def __init__(self, details: ClientDetails, ledger: Ledger) -> None:
        self._ledger = ledger
        self._client = httpx.AsyncClient(
            base_url=details.url,
            headers={"Authorization": f"Bearer {details.api_key}"},
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
            timeout=_PATIENCE,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, number: int) -> None:
        """Send one mail and write down what became of it. Any answer but 200 is a refusal."""
        begun_at = time.time()
        try:
            answer = await self._post(number)
        except httpx.TransportError as error:
            self._ledger.refused(number, f"no answer: {error!r}")
            return
        if answer.status_code == httpx.codes.OK:
            self._ledger.took(Receipt(number, "API", answer.json()["id"], time.time(), begun_at))
        else:
            self._ledger.refused(number, f"{answer.status_code} {answer.text[:200]}")

    async def _post(self, number: int) -> httpx.Response:
        mail = {
            "from": "Demo <demo@nightmail.example>",
            "to": f"reader{number % 100}@example.org",
            "subject": self._ledger.subject(number),
            "html": html(number),
        }
        headers = {"Idempotency-Key": f"demo-{self._ledger.run}-{number}"}
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with cut_off_as(httpx.ConnectError):
                    return await self._client.post("/emails", json=mail, headers=headers)
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE)
