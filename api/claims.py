"""Claims of domains, /domains/claim in Resend's form: a way to take a domain from another account.

This server has one account, so there is nobody to take a domain from, and no claim is ever made: the answers say what
to do instead.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api import openapi
from api.addresses import parse_domain
from api.auth import KeyGuard
from api.domains import NewDomainRequest
from api.errors import ApiError, not_found
from api.ids import ObjectId, parse_id
from api.request import decode, read
from outbox.domain_store import DomainStore
from outbox.policy import ApiKey


def router(store: DomainStore, owner: KeyGuard) -> APIRouter:
    """Claim, get, verify."""
    routes = APIRouter(prefix="/domains", tags=["domains"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.post(
        "/claim",
        status_code=404,
        responses=openapi.errors(400, 404, 409, 422),
        openapi_extra=openapi.body_of(NewDomainRequest),
    )
    async def claim_domain(request: Request, _key: Owner) -> Response:
        """Refused: the domain is here already (409), or nobody has it (404)."""
        name = parse_domain(read(NewDomainRequest, decode(await request.body())).name, field="name")
        if await store.named(name):
            raise ApiError(409, "validation_error", f"The {name} domain is registered here already.")
        raise ApiError(404, "not_found", f"Nobody here has the {name} domain: create it with POST /domains.")

    @routes.get("/{domain_id}/claim", status_code=404, responses=openapi.errors(404, 422))
    async def get_claim(domain_id: ObjectId, _key: Owner) -> Response:
        """There is none."""
        raise await _no_claim(store, domain_id)

    @routes.post("/{domain_id}/claim/verify", status_code=404, responses=openapi.errors(404, 422))
    async def verify_claim(domain_id: ObjectId, _key: Owner) -> Response:
        """There is none."""
        raise await _no_claim(store, domain_id)

    return routes


async def _no_claim(store: DomainStore, domain_id: str) -> ApiError:
    domain = await store.find(parse_id(domain_id))
    return not_found("Domain" if domain is None else "Domain claim")
