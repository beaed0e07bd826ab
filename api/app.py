"""What the two apps have in common: error shapes, the body limit, the frame, and nothing that leaves the house."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from api import errors, frame, limits
from api.direct import Direct, Handler
from api.tracking import Readers, ReadersFirst
from outbox.accept import Acceptor
from runtime.settings import Settings

# FastAPI would otherwise show bodies and keys to whatever OpenTelemetry set-up the environment asks for.
_NO_TELEMETRY = TelemetryConfig(tracing=False, metrics=False, logs=False, operation_spans=False, auto_configure=False)


class App(FastAPI):
    """FastAPI, and middleware round all of it: what is answered there passes through nothing that it does not need."""

    def __init__(self, title: str) -> None:
        super().__init__(title=title, docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=_NO_TELEMETRY)
        self._outermost: ASGIApp = super().__call__

    def surround(self, middleware: Callable[..., ASGIApp], **options: Any) -> None:
        """Put it round what is there."""
        self._outermost = middleware(self._outermost, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        await self._outermost(scope, receive, send)


def new_app(
    title: str,
    settings: Settings,
    *,
    acceptor: Acceptor | None = None,
    handlers: Mapping[str, Handler] | None = None,
    note: frame.Note | None = None,
    readers: Readers | None = None,
) -> FastAPI:
    """An app without routes; with an `acceptor` there is a door in front of sending.

    `handlers` and `readers` take the short way; `note` is told of each request that was answered.

    The pages of documentation are left out, since they load scripts from elsewhere.
    """
    app = App(title)
    errors.install(app)
    if readers:
        app.surround(ReadersFirst, readers=readers)
    if handlers:
        app.surround(Direct, handlers=handlers)
    app.surround(limits.BodyLimit, limit=settings.max_message_bytes + limits.JSON_OVERHEAD)
    if acceptor is not None:
        app.surround(limits.Admission, acceptor=acceptor)
    app.surround(frame.Frame, note=note)  # added last, so outermost
    return app


def take(app: FastAPI, router: APIRouter) -> None:
    """Its routes as they are: `include_router` would build each a second time, upon the first client's request."""
    app.router.routes.extend(router.routes)
