"""API keys: /api-keys in Resend's form. Needs the queue, not the database."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api import openapi
from api.answer import json_response
from api.auth import KeyGuard
from api.errors import ApiError, invalid, not_found
from api.ids import ObjectId, parse_id
from api.names import read_name
from api.paging import page
from api.present import timestamp
from api.request import Body, decode, read
from api.spreading import everywhere
from outbox.domain_store import DomainStore
from outbox.policy import ApiKey, Permission
from outbox.policy_store import PolicyStore

LONGEST_NAME = 50


class RenameRequest(Body):
    """The only thing that can change."""

    name: str


class NewKeyRequest(RenameRequest):
    """A key that may do everything, or only send, and that only from one domain if it is given."""

    permission: str | None = Permission.FULL_ACCESS
    domain_id: str | None = None


def router(store: PolicyStore, domains: DomainStore, owner: KeyGuard) -> APIRouter:
    """Create, list, rename, delete."""
    routes = APIRouter(prefix="/api-keys", tags=["api-keys"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.post(
        "", status_code=201, responses=openapi.errors(400, 404, 422), openapi_extra=openapi.body_of(NewKeyRequest)
    )
    async def create_key(request: Request, _key: Owner) -> Response:
        """A new key. Its token is in this answer and nowhere else, ever."""
        wanted = read(NewKeyRequest, decode(await request.body()))
        name, permission = read_name(wanted.name, longest=LONGEST_NAME), _permission(wanted.permission)
        domain = await _domain(domains, wanted.domain_id, permission)
        key, token = await store.create_key(name, permission=permission, domain=domain)
        await everywhere()
        return json_response({"object": "api_key", "id": key.id, "token": token}, 201)

    @routes.get("", responses=openapi.errors(422), openapi_extra=openapi.PAGE)
    async def list_keys(request: Request, _key: Owner) -> Response:
        """Keys without their tokens, the newest first; all of them where there is no `limit`."""
        keys, used = await store.list_keys(), await store.last_used()
        shown = page(request, keys[::-1], id_of=lambda key: key.id, shown=lambda key: _shown(key, used.get(key.id)))
        return json_response(shown)

    @routes.patch("/{key_id}", responses=openapi.errors(400, 404, 422), openapi_extra=openapi.body_of(RenameRequest))
    async def rename_key(request: Request, key_id: ObjectId, _key: Owner) -> Response:
        """Give it another name."""
        wanted = read(RenameRequest, decode(await request.body()))
        key_id = parse_id(key_id)
        if not await store.rename_key(key_id, read_name(wanted.name, longest=LONGEST_NAME)):
            raise not_found("API key")
        return json_response({"object": "api_key", "id": key_id})

    @routes.delete("/{key_id}", responses=openapi.errors(404, 422))
    async def delete_key(key_id: ObjectId, _key: Owner) -> Response:
        """End it for good. Mail that it sent is delivered all the same."""
        key_id = parse_id(key_id)
        if not await store.revoke_key(key_id):
            raise not_found("API key")
        await everywhere()
        return json_response({"object": "api_key", "id": key_id, "deleted": True})

    return routes


def _permission(written: str | None) -> Permission:
    try:
        return Permission.FULL_ACCESS if written is None else Permission(written)
    except ValueError as wrong:
        raise ApiError(422, "invalid_access", 'Access must be "full_access" | "sending_access"') from wrong


async def _domain(domains: DomainStore, domain_id: str | None, permission: Permission) -> str | None:
    """The name of the one domain. A restriction that would not hold is refused."""
    if domain_id is None:
        return None
    if permission is not Permission.SENDING_ACCESS:
        raise invalid("Invalid `domain_id` field. It needs the permission `sending_access`.")
    domain = await domains.find(parse_id(domain_id, field="domain_id"))
    if domain is None:
        raise not_found("Domain")
    return domain.name


def _shown(key: ApiKey, used_at: datetime | None) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "created_at": timestamp(key.created_at),
        "last_used_at": timestamp(used_at) if used_at else None,
    }
