"""Webhooks: /webhooks in Resend's form, with the messages of each, and their attempts.

Needs the queue, not the database.
"""

from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from api import openapi
from api.answer import json_response
from api.auth import KeyGuard
from api.errors import ApiError, invalid, not_found, unavailable
from api.ids import ObjectId, parse_id
from api.paging import listed, page, window_of
from api.present import timestamp
from api.request import Body, decode, read
from outbox.policy import ApiKey
from outbox.webhook import Status, Webhook, Webhooks
from outbox.webhook_queue import HookAttempt, HookMessage, WebhookQueue
from runtime import clock
from runtime.logs import get
from runtime.networks import Network
from runtime.outside import Refused, check_url
from runtime.sealing import Unsealable

log = get(__name__)

_NAMES = {
    "email": "sent scheduled delivered delivery_delayed complained bounced opened clicked received failed suppressed",
    "contact": "created updated deleted topics.updated",
    "domain": "created updated deleted",
    "suppression": "added removed",
    "topic": "created updated deleted",
}
# Those that Resend knows. To ask for one that is never told does no harm, and lets a client move over as it is.
TYPES = frozenset(f"{family}.{name}" for family, names in _NAMES.items() for name in names.split())


class ChangeWebhookRequest(Body):
    """What can change."""

    endpoint: str | None = None
    events: list[str] | None = None
    status: str | None = None


class NewWebhookRequest(Body):
    """Where to post, and which events."""

    endpoint: str
    events: list[str]


def router(webhooks: Webhooks, messages: WebhookQueue, owner: KeyGuard, *, reachable: tuple[Network, ...]) -> APIRouter:
    """Endpoints and what was told them."""
    routes = APIRouter(prefix="/webhooks", tags=["webhooks"])
    _endpoints(routes, _Endpoints(webhooks, messages, reachable), owner)
    _told(routes, webhooks, messages, owner)
    return routes


def _endpoints(routes: APIRouter, endpoints: "_Endpoints", owner: KeyGuard) -> None:
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.post(
        "", status_code=201, responses=openapi.errors(400, 422), openapi_extra=openapi.body_of(NewWebhookRequest)
    )
    async def create_webhook(request: Request, _key: Owner) -> Response:
        """A new endpoint, which is told all events from now on. The answer has its signing secret."""
        return json_response(await endpoints.create(read(NewWebhookRequest, decode(await request.body()))), 201)

    @routes.get("", responses=openapi.errors(422), openapi_extra=openapi.PAGE)
    async def list_webhooks(request: Request, _key: Owner) -> Response:
        """Endpoints without their secrets, the newest first; all of them where there is no `limit`."""
        return json_response(page(request, await endpoints.all(), id_of=lambda webhook: webhook.id, shown=_shown))

    @routes.get("/{webhook_id}", responses=openapi.errors(404, 422))
    async def get_webhook(webhook_id: ObjectId, _key: Owner) -> Response:
        """One endpoint, with its signing secret."""
        return json_response(await endpoints.show(parse_id(webhook_id)))

    @routes.patch(
        "/{webhook_id}", responses=openapi.errors(400, 404, 422), openapi_extra=openapi.body_of(ChangeWebhookRequest)
    )
    async def change_webhook(request: Request, webhook_id: ObjectId, _key: Owner) -> Response:
        """Other events, another URL, or disabled. One that is enabled again begins with what happens from then on."""
        wanted = read(ChangeWebhookRequest, decode(await request.body()))
        return json_response(await endpoints.change(parse_id(webhook_id), wanted))

    @routes.delete("/{webhook_id}", responses=openapi.errors(404, 422))
    async def delete_webhook(webhook_id: ObjectId, _key: Owner) -> Response:
        """End it, with all that waits for it."""
        return json_response(await endpoints.delete(parse_id(webhook_id)))

    @routes.post("/{webhook_id}/signing-secret/rotate", responses=openapi.errors(404, 422))
    async def rotate_secret(webhook_id: ObjectId, _key: Owner) -> Response:
        """A new signing secret. For a day messages bear two signatures, by the new one and the old."""
        return json_response(await endpoints.rotate(parse_id(webhook_id)))


class _Endpoints:
    """What can be done with endpoints."""

    def __init__(self, webhooks: Webhooks, messages: WebhookQueue, reachable: tuple[Network, ...]) -> None:
        self._webhooks = webhooks
        self._messages = messages
        self._reachable = reachable

    async def create(self, wanted: NewWebhookRequest) -> dict[str, Any]:
        """Its place in the events is set first, so that nothing that follows the answer is missed."""
        endpoint, events = self._endpoint(wanted.endpoint), _events(wanted.events)
        try:
            webhook = self._webhooks.new(endpoint, events, now=clock.now())
        except Unsealable as reason:
            raise _sealed(reason) from reason
        await self._messages.begin_now(webhook.id)
        await self._webhooks.keep(webhook)
        return _reference(webhook) | {"signing_secret": self._secret(webhook)}

    async def all(self) -> list[Webhook]:
        """All of them."""
        return await self._webhooks.all()

    async def show(self, webhook_id: str) -> dict[str, Any]:
        """One of them."""
        webhook = await find(self._webhooks, webhook_id)
        return {"object": "webhook"} | _shown(webhook) | {"signing_secret": self._secret(webhook)}

    async def change(self, webhook_id: str, wanted: ChangeWebhookRequest) -> dict[str, Any]:
        """Set what is given."""
        before = await find(self._webhooks, webhook_id)
        after = replace(
            before,
            endpoint=before.endpoint if wanted.endpoint is None else self._endpoint(wanted.endpoint),
            events=before.events if wanted.events is None else _events(wanted.events),
            status=before.status if wanted.status is None else _status(wanted.status),
        )
        if after.status is Status.ENABLED and before.status is Status.DISABLED:
            await self._messages.begin_now(webhook_id)
        await self._webhooks.keep(after)
        return _reference(after)

    async def delete(self, webhook_id: str) -> dict[str, Any]:
        """Take it away."""
        webhook = await find(self._webhooks, webhook_id)
        await self._webhooks.remove(webhook_id)
        await self._messages.drop(webhook_id)
        return _reference(webhook) | {"deleted": True}

    async def rotate(self, webhook_id: str) -> dict[str, Any]:
        """Give it a new secret."""
        webhook = await find(self._webhooks, webhook_id)
        try:
            rotated = await self._webhooks.rotate(webhook, now=clock.now())
        except Unsealable as reason:
            raise _sealed(reason) from reason
        return _reference(rotated) | {"signing_secret": self._secret(rotated)}

    def _secret(self, webhook: Webhook) -> str:
        try:
            return self._webhooks.secret(webhook, now=clock.now())
        except Unsealable as reason:
            raise _sealed(reason) from reason

    def _endpoint(self, written: str) -> str:
        try:
            check_url(written, self._reachable)
        except Refused as reason:
            raise invalid(f"Invalid `endpoint` field: {reason}.") from reason
        return written


def _told(routes: APIRouter, webhooks: Webhooks, messages: WebhookQueue, owner: KeyGuard) -> None:
    """What an endpoint was told, or is to be told."""
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.get("/{webhook_id}/events", responses=openapi.errors(404, 422), openapi_extra=openapi.PAGE)
    async def list_webhook_events(request: Request, webhook_id: ObjectId, _key: Owner) -> Response:
        """Its last messages, the newest first."""
        webhook = await find(webhooks, parse_id(webhook_id))
        window = window_of(request, cursor=str)
        found = await messages.page(webhook.id, limit=window.limit + 1, after=window.after)
        return json_response(listed(map(_summary, found[: window.limit]), has_more=len(found) > window.limit))

    @routes.get("/{webhook_id}/events/{event_id}", responses=openapi.errors(404, 422))
    async def get_webhook_event(webhook_id: ObjectId, event_id: str, _key: Owner) -> Response:
        """One message."""
        message = await _message(webhooks, messages, parse_id(webhook_id), event_id)
        again_at = message.next_attempt_at
        whole = {"next_attempt_at": timestamp(again_at) if again_at else None, "payload": orjson.loads(message.body)}
        return json_response({"object": "webhook_event"} | _summary(message) | whole)

    @routes.post("/{webhook_id}/events/{event_id}/replay", responses=openapi.errors(404, 422))
    async def replay_webhook_event(webhook_id: ObjectId, event_id: str, _key: Owner) -> Response:
        """Send a message once more, under its own id, whether it arrived or not."""
        message = await _message(webhooks, messages, parse_id(webhook_id), event_id)
        await messages.replay(parse_id(webhook_id), message.id, now=clock.now())
        return json_response({"object": "webhook_event", "id": message.id})

    @routes.get("/{webhook_id}/events/{event_id}/attempts", responses=openapi.errors(404, 422))
    async def list_webhook_attempts(request: Request, webhook_id: ObjectId, event_id: str, _key: Owner) -> Response:
        """The last attempts at a message, the newest first."""
        message = await _message(webhooks, messages, parse_id(webhook_id), event_id)
        found = await messages.attempts(parse_id(webhook_id), message.id)
        window = window_of(request, cursor=str)
        ids = [each.id for each in found]
        left = found[ids.index(window.after) + 1 if window.after in ids else 0 :]
        return json_response(listed(map(_attempt, left[: window.limit]), has_more=len(left) > window.limit))


async def find(webhooks: Webhooks, webhook_id: str) -> Webhook:
    """The webhook. Raises ApiError 404."""
    webhook = await webhooks.get(webhook_id)
    if webhook is None:
        raise not_found("Webhook")
    return webhook


async def _message(webhooks: Webhooks, messages: WebhookQueue, webhook_id: str, event_id: str) -> HookMessage:
    webhook = await find(webhooks, webhook_id)
    message = await messages.find(webhook.id, event_id)
    if message is None:
        raise not_found("Webhook event")
    return message


def _events(wanted: list[str]) -> tuple[str, ...]:
    if not wanted:
        raise invalid("Invalid `events` field. It must have at least 1 item.")
    if unknown := [name for name in wanted if name not in TYPES]:
        raise invalid(f"Invalid `events` field. There is no event `{unknown[0][:100]}`.")
    return tuple(dict.fromkeys(wanted))


def _status(written: str) -> Status:
    try:
        return Status(written)
    except ValueError as wrong:
        raise invalid("Invalid `status` field. It must be `enabled` or `disabled`.") from wrong


def _sealed(reason: Unsealable) -> ApiError:
    log.error("webhook.secret_not_sealed", error=str(reason))
    return unavailable()


def _reference(webhook: Webhook) -> dict[str, Any]:
    return {"object": "webhook", "id": webhook.id}


def _shown(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "created_at": timestamp(webhook.created_at),
        "status": webhook.status,
        "endpoint": webhook.endpoint,
        "events": webhook.events,
    }


def _summary(message: HookMessage) -> dict[str, Any]:
    return {"id": message.id, "type": message.type, "created_at": timestamp(message.at), "status": message.status}


def _attempt(attempt: HookAttempt) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "http_status_code": attempt.http_status_code,
        "response": attempt.response,
        "sent_at": timestamp(attempt.sent_at),
    }
