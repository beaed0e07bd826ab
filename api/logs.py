"""The last requests to the API: /logs in Resend's form. Needs the queue, not the database."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api import openapi
from api.answer import json_response
from api.auth import KeyGuard
from api.errors import not_found
from api.ids import ObjectId, parse_id
from api.paging import cut, window_of
from api.present import timestamp
from outbox.policy import ApiKey
from outbox.request_log import LoggedRequest, RequestLog


def router(ring: RequestLog, owner: KeyGuard) -> APIRouter:
    """List, get."""
    routes = APIRouter(prefix="/logs", tags=["operating"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.get("", responses=openapi.errors(422), openapi_extra=openapi.PAGE)
    async def list_logs(request: Request, _key: Owner) -> Response:
        """The last requests that were made with a key, the newest first, less sends that were taken."""
        window = window_of(request)
        found = await ring.page(limit=window.limit + 1, after=window.after, before=window.before)
        return json_response(cut(window, found, _brief))

    @routes.get("/{log_id}", responses=openapi.errors(404, 422))
    async def get_log(log_id: ObjectId, _key: Owner) -> Response:
        """One of them. `request_body` is never kept, `response_body` is that of a refusal."""
        found = await ring.find(parse_id(log_id))
        if found is None:
            raise not_found("Log")
        bodies = {"request_body": None, "response_body": found.answer}
        return json_response({"object": "log"} | _brief(found) | bodies)

    return routes


def _brief(request: LoggedRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "created_at": timestamp(request.at),
        "endpoint": request.endpoint,
        "method": request.method,
        "response_status": request.status,
        "user_agent": request.user_agent,
    }
