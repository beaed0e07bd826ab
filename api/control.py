"""The control API: what needs the database, or is about it. Stands behind the send API, which passes requests on.

With the database away it answers what the queue knows, marks that the history is missing, and says 503 for the rest:
it never says "not found" when it only could not look.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from redis.asyncio import Redis
from starlette.concurrency import run_in_threadpool

from api import (
    claims,
    domains,
    downloads,
    errors,
    files,
    keys,
    metrics,
    openapi,
    probes,
    shares,
    sharing,
    suppressions,
    templates,
    usage,
    webhooks,
)
from api.answer import HISTORY, json_response
from api.app import new_app, take
from api.auth import KeyGuard
from api.ids import EmailId, parse_id
from api.listing import Listing, Page
from api.lookup import Lookup
from api.paging import listed, window_of
from api.present import ChaosSwitch, EmailInFull, EmailList, summary
from api.request import decode, read_chaos
from api.searching import read_search
from history.chaos import Chaos
from history.errors import ChaosForbidden, ChaosInvalid, HistoryUnavailable
from history.queries import History
from outbox.domain_store import DomainStore
from outbox.policy import ApiKey, Policy
from outbox.policy_store import PolicyStore
from outbox.queue import Outbox
from outbox.suppression import SuppressionList
from outbox.template_store import TemplateStore
from outbox.webhook import Webhooks
from outbox.webhook_queue import WebhookQueue
from runtime.sealing import Seal
from runtime.settings import Settings


def create_app(
    settings: Settings,
    *,
    policy: Policy,
    policy_store: PolicyStore,
    seal: Seal,
    suppression_list: SuppressionList,
    outbox: Outbox,
    history: History,
    chaos: Chaos,
    redis: Redis,
) -> FastAPI:
    """The app over parts that the caller starts and stops."""
    owner = KeyGuard(policy, None, full_access=True)
    app = new_app("Nightmail control API", settings)
    app.add_exception_handler(HistoryUnavailable, _history_unavailable)
    lookup = Lookup(settings, outbox, history, redis)
    domain_store = DomainStore(policy_store, settings, seal)
    take(app, metrics.router(history, domain_store, owner))  # before the emails, since it looks like one
    take(app, _emails(lookup, Listing(outbox, history), owner))
    take(app, files.router(lookup, downloads.addresses(settings), owner))
    take(app, sharing.router(lookup, shares.addresses(settings), owner))
    take(app, usage.router(history, domain_store, owner, rate_limit=settings.rate_limit))
    take(app, claims.router(domain_store, owner))
    take(app, domains.router(domain_store, owner))
    take(app, keys.router(policy_store, domain_store, owner))
    take(app, suppressions.router(suppression_list, owner))
    hooks, messages = Webhooks(policy_store, seal), WebhookQueue(redis, settings)
    take(app, webhooks.router(hooks, messages, owner, reachable=settings.reachable_networks))
    take(app, templates.router(TemplateStore(policy_store), owner))
    take(app, _chaos(settings, chaos, owner))
    take(app, probes.router(settings, redis, ready=lambda: True))
    openapi.document(app)
    return app


async def _history_unavailable(_request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HistoryUnavailable)  # noqa: S101  (it is registered for nothing else)
    response = errors.respond(errors.unavailable(failure.retry_after))
    response.headers[HISTORY] = "unavailable"
    return response


def _emails(lookup: Lookup, listing: Listing, owner: KeyGuard) -> APIRouter:
    routes = APIRouter(tags=["emails"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.get("/emails", responses={200: {"model": EmailList}, **openapi.errors(422)}, openapi_extra=openapi.SEARCH)
    async def list_emails(request: Request, _key: Owner) -> Response:
        """Messages, newest first. With `Nightmail-History: unavailable` only those that are live or recent.

        A search needs the history: without it the answer is 503.
        """
        window, search = window_of(request), read_search(request.query_params)
        return _list(await (listing.page(window) if search is None else listing.search(window, search)))

    @routes.get("/emails/{email_id}", responses={200: {"model": EmailInFull}, **openapi.errors(404, 422)})
    async def get_email(email_id: EmailId, _key: Owner) -> Response:
        """What became of a message."""
        email, complete = await lookup.email(parse_id(email_id))
        response = json_response(email)
        if not complete:
            response.headers[HISTORY] = "unavailable"
        return response

    return routes


def _list(page: Page) -> Response:
    response = json_response(listed(map(summary, page.views), has_more=page.has_more))
    if not page.complete:
        response.headers[HISTORY] = "unavailable"
    return response


def _chaos(settings: Settings, chaos: Chaos, owner: KeyGuard) -> APIRouter:
    """The switch that makes the database fail on purpose; without the setting it is not there at all."""
    routes = APIRouter(prefix="/chaos", tags=["operating"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)
    answers: dict[int | str, dict[str, Any]] = {200: {"model": ChaosSwitch}}

    @routes.get("/database", responses={**answers, **openapi.errors(404)})
    async def get_chaos(_key: Owner) -> Response:
        """The mode in force."""
        _require(settings)
        return json_response((await run_in_threadpool(chaos.get)).to_dict())

    @routes.post("/database", responses={**answers, **openapi.errors(400, 404, 422)}, openapi_extra=openapi.CHAOS)
    async def set_chaos(request: Request, _key: Owner) -> Response:
        """Let the database be down, slow, exhausted or without tables for a while, or up again."""
        _require(settings)
        change = read_chaos(decode(await request.body()))
        try:
            state = await run_in_threadpool(chaos.set, change.mode, change.for_seconds)
        except ChaosInvalid as wrong:
            raise errors.invalid(f"Invalid chaos: {wrong}.") from wrong
        except ChaosForbidden as forbidden:
            raise errors.NO_ENDPOINT from forbidden
        return json_response(state.to_dict())

    return routes


def _require(settings: Settings) -> None:
    if not settings.chaos:
        raise errors.NO_ENDPOINT
