"""The send API as the front door of the control API: what it does not answer itself, it passes on.

The control API stands on the database and may be away; then the client hears 503 and comes again. It keeps its own time
with the database, and says 503 itself within a second of it. So a change is waited for: on a machine short of processor
time it is late, and given up it would be made all the same.
"""

from datetime import timedelta

import httpx
from fastapi import Request, Response

from api.errors import NO_ENDPOINT, unavailable
from runtime.cut_off import cut_off_as
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)

_PATIENCE = httpx.Timeout(connect=2.0, write=10.0, read=10.0, pool=2.0)  # seconds
_LOOK_UP = timedelta(seconds=2)  # then the queue is asked, which knows nearly as much
_CONNECTIONS = httpx.Limits(max_connections=50, max_keepalive_connections=10, keepalive_expiry=2.0)

# RFC 9110 section 7.6.1: these speak of one connection only. Host and length are written anew by the client,
# the encoding is undone by it.
_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"host", b"content-length", b"content-encoding",
        b"accept-encoding", b"date", b"server",
    }
)  # fmt: skip


class Forwarder:
    """A client of the control API. `stop` closes its connections."""

    def __init__(self, settings: Settings, *, look_up_within: timedelta = _LOOK_UP) -> None:
        self._look_up = httpx.Timeout(look_up_within.total_seconds())
        self._client = httpx.AsyncClient(
            base_url=settings.control,
            limits=_CONNECTIONS,
            trust_env=False,
            follow_redirects=False,
            verify=settings.control.startswith("https:"),  # without TLS there are no authorities to load
        )

    async def stop(self) -> None:
        """Close."""
        await self._client.aclose()

    async def forward(self, request: Request) -> Response:
        """The control API's answer to the same request. Raises ApiError 503 when there is none in time."""
        path = request.scope["raw_path"].decode("latin-1")  # as it came: decoded, it may be no part of a URL any more
        return await self._ask(
            request,
            request.method,
            path + (f"?{request.url.query}" if request.url.query else ""),
            body=await request.body(),
            patience=_PATIENCE,
        )

    async def look_up(self, request: Request, email_id: str) -> Response:
        """The control API's answer to GET /emails/{id}, in the name of the client of `request`. Raises ApiError 503."""
        return await self._ask(request, "GET", f"/emails/{email_id}", body=b"", patience=self._look_up)

    async def _ask(
        self, request: Request, method: str, target: str, *, body: bytes, patience: httpx.Timeout
    ) -> Response:
        onward = [pair for pair in _end_to_end(request.headers.raw) if body or pair[0].lower() != b"content-type"]
        try:
            with cut_off_as(httpx.ConnectError):
                answer = await self._client.request(
                    method, target, headers=onward, content=body or None, timeout=patience
                )
        except httpx.InvalidURL as wrong:
            raise NO_ENDPOINT from wrong
        except httpx.HTTPError as failure:
            log.warning("control.unreachable", error=type(failure).__name__)
            raise unavailable() from failure
        response = Response(answer.content, answer.status_code)
        response.raw_headers += _end_to_end(answer.headers.raw)
        if answer.is_error:
            request.scope["facts"]["refusal"] = response.body
        return response


def _end_to_end(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers that are meant for the far end, less those that `Connection` names."""
    named = {
        word.strip().lower() for name, value in headers if name.lower() == b"connection" for word in value.split(b",")
    }
    return [(name.lower(), value) for name, value in headers if name.lower() not in _HOP | named]
