"""The ASGI frame round an app: counts, times and logs each request, adds the rate-limit headers, contains surprises.

What a handler knows about its request (ids, key, error name, the body of a refusal) it writes into `scope["facts"]`,
also its route where no router found it; with `untold` there the request is counted and not logged.
"""

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.answer import JSON
from api.errors import UNEXPECTED, respond
from outbox.ratelimit import Rate
from runtime.logs import fact, get

log = get(__name__)

REQUESTS = Counter("nightmail_http_requests_total", "HTTP requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "nightmail_http_request_seconds",
    "Time from the first octet of a request to the last of its answer",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

_requests, _seconds = cache(REQUESTS.labels), cache(SECONDS.labels)  # looking up a label costs more than counting
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})
_OK = 200
_JSON_FIELD = (b"content-type", JSON.encode())
_NOT_TOLD = frozenset({"rate", "status", "refusal"})

Note = Callable[[Scope, Mapping[str, Any]], None]


def answer(scope: Scope, body: bytes) -> None:
    """Answer 200 with JSON, in one write and past the server's looking at each header (api/doorkeeper.py)."""
    facts = scope["facts"]
    facts["status"] = _OK
    length = (b"content-length", b"%d" % len(body))
    scope["answer"](_OK, (length, _JSON_FIELD, *_rate_fields(facts.get("rate"))), body)


class Frame:
    """The outermost middleware of both apps. `note` is told of each request once it was answered."""

    def __init__(self, app: ASGIApp, *, note: Note | None = None) -> None:
        self._app = app
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing it raises reaches the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        facts: dict[str, Any] = {}
        scope["facts"] = facts
        started = time.perf_counter()

        async def send_framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts["status"] = message["status"]
                message["headers"] = [*message.get("headers", ()), *_rate_fields(facts.get("rate"))]
            await send(message)

        try:
            await self._app(scope, receive, send_framed)
        except ClientDisconnect:
            facts["error"] = "client_gone"
        except Exception:
            log.exception("request.failed", method=scope["method"], path=scope["path"])
            facts["error"] = UNEXPECTED.name
            if "status" not in facts:
                await respond(UNEXPECTED)(scope, receive, send_framed)
        scope.pop("answer", None)  # it leads back to the scope: a cycle, for each request
        _tell(scope, facts, time.perf_counter() - started)
        if self._note is not None:
            self._note(scope, facts)


def _rate_fields(rate: Rate | None) -> tuple[tuple[bytes, bytes], ...]:
    if rate is None:
        return ()
    return (
        (b"ratelimit-limit", b"%d" % rate.limit),
        (b"ratelimit-policy", b"%d;w=1" % rate.limit),
        (b"ratelimit-remaining", b"%d" % rate.remaining),
        (b"ratelimit-reset", b"%d" % rate.reset_seconds),
    )


def count(method: str, route: str, status: int) -> None:
    """Count a request that was answered; status 0: the client went away before."""
    _requests(method, route, status).inc()


def _tell(scope: Scope, facts: dict[str, Any], seconds: float) -> None:
    route = facts.pop("route", None) or getattr(scope.get("route"), "path", "other")
    status = facts.get("status", 0)
    count(scope["method"], route, status)
    _seconds(route).observe(seconds)
    if route in _PROBES or "untold" in facts:
        return
    told = {name: value for name, value in facts.items() if name not in _NOT_TOLD}
    event = "request.answered" if "error" not in facts else "request.refused"
    fact(event, method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 2), **told)
