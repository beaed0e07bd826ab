"""The send API: takes mail, tells what is known of it, cancels it. Its stores are the queue and the journal.

It never touches the database. What it does not answer itself it passes on to the control API.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from redis.asyncio import Redis
from starlette.types import ASGIApp, Receive, Scope, Send

from api import downloads, errors, live, logs, openapi, probes, shares
from api.accepting import Intake, Mode
from api.answer import json_response
from api.app import new_app, take
from api.auth import KeyGuard
from api.compose import Composer
from api.direct import Handler
from api.fetching import Fetcher
from api.forward import Forwarder
from api.present import EmailList, Sent, SentBatch
from api.reading import field
from api.request_keeper import RequestKeeper
from api.tracking import Readers
from outbox.accept import Acceptor
from outbox.backlog import backlog
from outbox.hits import Hits
from outbox.policy import ApiKey, Policy
from outbox.queue import Outbox
from outbox.ratelimit import RateLimiter
from outbox.request_log import RequestLog
from outbox.tracking import Tracking
from runtime import clock
from runtime.outside import Outside
from runtime.settings import Settings

Answer = dict[str, Any]


def create_app(
    settings: Settings,
    *,
    acceptor: Acceptor,
    policy: Policy,
    outbox: Outbox,
    redis: Redis,
    forwarder: Forwarder,
    ratelimiter: RateLimiter,
    outside: Outside,
    keeper: RequestKeeper,
    hits: Hits,
) -> FastAPI:
    """The app over parts that the caller starts and stops."""
    sender = KeyGuard(policy, ratelimiter, full_access=False)
    owner = KeyGuard(policy, ratelimiter, full_access=True)
    tracking = Tracking(settings)
    composer = Composer(settings, policy, tracking, now=clock.now)
    fetcher = Fetcher(outside, most=settings.max_message_bytes, wait=settings.accept_wait)

    sending, handlers = _sending(settings, Intake(settings, acceptor, composer, fetcher), sender)
    readers = Readers(tracking, hits)
    app = new_app(
        "Nightmail send API", settings, acceptor=acceptor, handlers=handlers, readers=readers, note=keeper.note
    )
    take(app, sending)
    take(app, downloads.router(downloads.addresses(settings), forwarder))
    take(app, shares.router(shares.addresses(settings), forwarder))
    take(app, live.router(outbox, forwarder, composer, owner, acceptor))
    take(app, _reading(settings, redis, forwarder, owner))
    take(app, logs.router(RequestLog(redis, settings), owner))
    take(app, probes.router(settings, redis, ready=lambda: acceptor.can_append))
    app.router.default = _pass_on(forwarder, owner)
    openapi.document(app)
    return app


def _sending(settings: Settings, intake: Intake, sender: KeyGuard) -> tuple[APIRouter, dict[str, Handler]]:
    """The routes, and by path the handlers behind them."""
    routes = APIRouter(tags=["emails"])
    Sender = Annotated[ApiKey, Depends(sender)]  # noqa: N806  (a type)

    @routes.post(
        "/emails",
        responses={200: {"model": Sent}, **openapi.errors(400, 403, 404, 409, 413, 422, 507)},
        openapi_extra=openapi.ONE_EMAIL,
    )
    async def send_email(request: Request, key: Sender) -> Response:
        """Take one message. With the answer it is durable, and will be delivered or its failure told."""
        return json_response(await _one(intake, request.scope, request.receive, key))

    @routes.post(
        "/emails/batch",
        responses={200: {"model": SentBatch}, **openapi.errors(400, 403, 404, 409, 413, 422, 507)},
        openapi_extra=openapi.many_emails(settings.max_batch),
    )
    async def send_batch(request: Request, key: Sender) -> Response:
        """Take several messages: all or none in strict mode, those without fault in permissive mode."""
        return json_response(await _many(intake, request.scope, request.receive, key))

    async def one(scope: Scope, receive: Receive) -> Answer:
        return await _one(intake, scope, receive, sender.key_of(scope))

    async def many(scope: Scope, receive: Receive) -> Answer:
        return await _many(intake, scope, receive, sender.key_of(scope))

    return routes, {"/emails": one, "/emails/batch": many}


async def _one(intake: Intake, scope: Scope, receive: Receive, key: ApiKey) -> Answer:
    return {"id": await intake.one(scope, receive, key)}


async def _many(intake: Intake, scope: Scope, receive: Receive, key: ApiKey) -> Answer:
    mode = _mode(scope)
    ids, refused = await intake.batch(scope, receive, key, mode)
    answer: Answer = {"data": [{"id": one} for one in ids]}
    if mode == "permissive":
        answer["errors"] = [{"index": item.index, "message": item.message} for item in refused]
    return answer


def _mode(scope: Scope) -> Mode:
    match (field(scope, b"x-batch-validation") or "strict").lower():
        case "strict":
            return "strict"
        case "permissive":
            return "permissive"
    raise errors.invalid("The `x-batch-validation` header must be `strict` or `permissive`.")


def _reading(settings: Settings, redis: Redis, forwarder: Forwarder, owner: KeyGuard) -> APIRouter:
    routes = APIRouter()
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.get(
        "/emails",
        tags=["emails"],
        responses={200: {"model": EmailList}, **openapi.errors(422)},
        openapi_extra=openapi.SEARCH,
    )
    async def list_emails(request: Request, _key: Owner) -> Response:
        """Messages, newest first. With `Nightmail-History: unavailable` only those that are live or recent."""
        return await forwarder.forward(request)

    @routes.get("/backlog", tags=["operating"], responses=openapi.errors())
    async def get_backlog(_key: Owner) -> Response:
        """What waits, why, and how long it will take. Read from the queue alone."""
        return json_response((await backlog(redis, settings, now=clock.now())).to_dict())

    return routes


def _pass_on(forwarder: Forwarder, owner: KeyGuard) -> ASGIApp:
    """The end of the routing table: whatever has no route here may have one in the control API."""

    async def default(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise errors.NO_ENDPOINT
        request = Request(scope, receive)
        await owner(request)
        response = await forwarder.forward(request)
        await response(scope, receive, send)

    return default
