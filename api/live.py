"""Mail that the outbox still knows: GET, PATCH and cancel. What it no longer knows, the control API is asked for."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api import errors, openapi
from api.answer import HISTORY, json_response
from api.auth import KeyGuard
from api.compose import Composer
from api.errors import ApiError, invalid
from api.forward import Forwarder
from api.ids import EmailId, parse_id
from api.present import OURS, EmailInFull, Reference, recipients, show
from api.queued import find_queued
from api.request import decode, read_reschedule
from outbox.accept import Acceptor
from outbox.policy import ApiKey
from outbox.queue import Cancel, Outbox, Reschedule
from runtime import clock

_SERVER_ERROR = 500
_ENDED = ApiError(409, "validation_error", "The email cannot be cancelled: it has already been sent.")
_SENDING = ApiError(409, "resource_locked", "The email cannot be cancelled: it is being sent.")
_NOT_SCHEDULED = invalid("The email cannot be rescheduled: it is not scheduled any more.")


def router(outbox: Outbox, forwarder: Forwarder, composer: Composer, owner: KeyGuard, acceptor: Acceptor) -> APIRouter:
    """The three routes."""
    routes = APIRouter(tags=["emails"])
    mail = LiveMail(outbox, forwarder, composer, acceptor)
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.get("/emails/receiving", include_in_schema=False)
    async def not_here(_key: Owner) -> Response:
        """Resend has it under /emails, and it is not an id."""
        raise errors.NO_ENDPOINT

    @routes.get("/emails/metrics", include_in_schema=False)
    async def get_metrics(request: Request, _key: Owner) -> Response:
        """Neither is this. The control API answers and documents it."""
        return await forwarder.forward(request)

    @routes.get("/emails/{email_id}", responses={200: {"model": EmailInFull}, **openapi.errors(404, 422)})
    async def get_email(request: Request, email_id: EmailId, _key: Owner) -> Response:
        """What became of a message. A live one is known even while the database is down."""
        return await mail.get(request, parse_id(email_id))

    @routes.patch(
        "/emails/{email_id}",
        responses={200: {"model": Reference}, **openapi.errors(400, 404, 413, 422)},
        openapi_extra=openapi.NEW_TIME,
    )
    async def reschedule_email(request: Request, email_id: EmailId, _key: Owner) -> Response:
        """Move a scheduled message to another time."""
        return await mail.reschedule(request, parse_id(email_id))

    @routes.post("/emails/{email_id}/cancel", responses={200: {"model": Reference}, **openapi.errors(404, 409, 422)})
    async def cancel_email(request: Request, email_id: EmailId, _key: Owner) -> Response:
        """Cancel a message that waits. Either it is cancelled and never sent, or the answer is 409."""
        return await mail.cancel(request, parse_id(email_id))

    return routes


class LiveMail:
    """Asks the outbox first, then the control API, which alone may say "not found"."""

    def __init__(self, outbox: Outbox, forwarder: Forwarder, composer: Composer, acceptor: Acceptor) -> None:
        self._outbox = outbox
        self._forwarder = forwarder
        self._composer = composer
        self._acceptor = acceptor

    async def get(self, request: Request, email_id: str) -> Response:
        """The message, with its timeline where the control API answers, and what the outbox knows where it does not."""
        try:
            answer = await self._forwarder.look_up(request, email_id)
        except ApiError:
            answer = None
        if answer is not None and answer.status_code < _SERVER_ERROR:
            return answer
        view = await find_queued(self._outbox, email_id, content=True)
        if view is None:
            return answer or errors.respond(errors.unavailable())
        shown = await show(view) | {OURS: {"recipients": recipients(view), "timeline": None}}
        response = json_response(shown)
        response.headers[HISTORY] = "unavailable"
        return response

    async def reschedule(self, request: Request, email_id: str) -> Response:
        """A new time for the message."""
        body = await request.body()
        at = self._composer.scheduled_at(read_reschedule(decode(body)).scheduled_at)
        match await self._outbox.reschedule(email_id, at, now=clock.now()):
            case Reschedule.RESCHEDULED:
                await self._acceptor.note("rescheduled", email_id, scheduled_at=clock.to_ms(at))
                return _done(email_id)
            case Reschedule.NOT_SCHEDULED:
                raise _NOT_SCHEDULED
        return await self._unknown(request, email_id, _NOT_SCHEDULED)

    async def cancel(self, request: Request, email_id: str) -> Response:
        """The end of the message, unless it is too late."""
        match await self._outbox.cancel(email_id, now=clock.now()):
            case Cancel.CANCELLED:
                await self._acceptor.note("cancelled", email_id)
                return _done(email_id)
            case Cancel.SENDING:
                raise _SENDING
            case Cancel.ENDED:
                raise _ENDED
        return await self._unknown(request, email_id, _ENDED)

    async def _unknown(self, request: Request, email_id: str, ended: ApiError) -> Response:
        """A message the outbox has forgotten has ended, if it ever was: the history knows."""
        answer = await self._forwarder.look_up(request, email_id)
        if answer.status_code == 200:  # noqa: PLR2004
            raise ended
        return answer


def _done(email_id: str) -> Response:
    return json_response({"object": "email", "id": email_id})
