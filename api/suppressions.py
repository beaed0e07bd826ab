"""The suppression list: /suppressions in Resend's form. Needs the queue, not the database."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api import openapi
from api.addresses import parse
from api.answer import json_response
from api.auth import KeyGuard
from api.errors import invalid, invalid_parameter, not_found
from api.ids import parse_id
from api.paging import cut, window_of
from api.present import timestamp
from api.request import Body, decode, read
from outbox.policy import ApiKey
from outbox.suppression import Origin, Suppression, SuppressionList, normal
from runtime import clock

_MOST = 100  # of one batch


class SuppressRequest(Body):
    """An address that is to get no mail."""

    email: str


class SuppressBatchRequest(Body):
    """Addresses that are to get no mail."""

    emails: list[str]


class UnsuppressBatchRequest(Body):
    """Addresses that may get mail again, named by themselves or by the ids of their entries."""

    emails: list[str] | None = None
    ids: list[str] | None = None


def router(suppressions: SuppressionList, owner: KeyGuard) -> APIRouter:
    """Add, list, get, remove, and both in batches."""
    routes = APIRouter(prefix="/suppressions", tags=["suppressions"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.post(
        "", status_code=201, responses=openapi.errors(400, 422), openapi_extra=openapi.body_of(SuppressRequest)
    )
    async def add_suppression(request: Request, _key: Owner) -> Response:
        """Suppress an address. One that is suppressed already keeps its entry, which is the answer."""
        wanted = read(SuppressRequest, decode(await request.body()))
        added = await suppressions.add(_address(wanted.email, "email"), now=clock.now())
        return json_response(_reference(added), 201)

    @routes.post(
        "/batch/add",
        status_code=201,
        responses=openapi.errors(400, 422),
        openapi_extra=openapi.body_of(SuppressBatchRequest),
    )
    async def add_suppressions(request: Request, _key: Owner) -> Response:
        """Suppress up to a hundred addresses."""
        wanted = read(SuppressBatchRequest, decode(await request.body()))
        addresses = [_address(each, "emails") for each in _bounded(wanted.emails, "emails")]
        added = [await suppressions.add(address, now=clock.now()) for address in addresses]
        return json_response({"data": [_reference(each) for each in added]}, 201)

    @routes.post(
        "/batch/remove", responses=openapi.errors(400, 422), openapi_extra=openapi.body_of(UnsuppressBatchRequest)
    )
    async def remove_suppressions(request: Request, _key: Owner) -> Response:
        """Let up to a hundred addresses get mail again. What is not on the list is left out of the answer."""
        names = _names(read(UnsuppressBatchRequest, decode(await request.body())))
        removed = [await suppressions.remove(name, now=clock.now()) for name in names]
        return json_response({"data": [_reference(each) | {"deleted": True} for each in removed if each]})

    @routes.get("", responses=openapi.errors(422), openapi_extra=openapi.PAGE)
    async def list_suppressions(request: Request, _key: Owner) -> Response:
        """The list, the newest first, all of it or of one `origin`."""
        window, origin = window_of(request), _origin(request.query_params.get("origin"))
        found = await suppressions.page(limit=window.limit + 1, after=window.after, before=window.before, origin=origin)
        return json_response(cut(window, found, _shown))

    @routes.get("/{id_or_email}", responses=openapi.errors(404, 422))
    async def get_suppression(id_or_email: str, _key: Owner) -> Response:
        """One entry, by its id or its address."""
        found = await suppressions.get(_name(id_or_email, "email"))
        if found is None:
            raise not_found("Suppression")
        return json_response({"object": "suppression"} | _shown(found))

    @routes.delete("/{id_or_email}", responses=openapi.errors(404, 422))
    async def remove_suppression(id_or_email: str, _key: Owner) -> Response:
        """Let an address get mail again."""
        removed = await suppressions.remove(_name(id_or_email, "email"), now=clock.now())
        if removed is None:
            raise not_found("Suppression")
        return json_response(_reference(removed) | {"deleted": True})

    return routes


def _bounded(values: list[str], field: str) -> list[str]:
    if not 1 <= len(values) <= _MOST:
        raise invalid(f"Invalid `{field}` field. It must have between 1 and {_MOST} items.")
    return values


def _names(wanted: UnsuppressBatchRequest) -> list[str]:
    if (wanted.emails is None) == (wanted.ids is None):
        raise invalid("Provide either `emails` or `ids`, but not both.")
    if wanted.emails is not None:
        return [_address(each, "emails") for each in _bounded(wanted.emails, "emails")]
    return [parse_id(each, field="ids") for each in _bounded(wanted.ids or [], "ids")]


def _name(written: str, field: str) -> str:
    return _address(written, field) if "@" in written else parse_id(written)


def _address(written: str, field: str) -> str:
    return normal(parse(written.strip(), field=field).mailbox.address)


def _origin(written: str | None) -> Origin | None:
    try:
        return None if written is None else Origin(written)
    except ValueError as wrong:
        raise invalid_parameter("origin", "It must be `bounce`, `complaint` or `manual`.") from wrong


def _reference(suppression: Suppression) -> dict[str, Any]:
    return {"object": "suppression", "id": suppression.id}


def _shown(suppression: Suppression) -> dict[str, Any]:
    return {
        "id": suppression.id,
        "email": suppression.email,
        "origin": suppression.origin,
        "source_id": suppression.source_id,
        "created_at": timestamp(suppression.created_at),
    }
