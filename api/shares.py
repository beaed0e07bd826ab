"""Mail shown to whoever has its address: made by POST /emails/{id}/share, signed, and valid for two days at most.

As with downloads, the addresses lead to the send API, which asks the control API (api/sharing.py) for the page.
"""

from typing import Any

from fastapi import APIRouter, Request, Response

from api import openapi
from api.forward import Forwarder
from api.ids import EmailId, parse_id
from api.signed_addresses import Expires, SignedAddresses
from runtime.settings import Settings

PATH = "/shared/{email_id}/{expires}/{signature}"
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The page", "content": {"text/html": {}}},
    **openapi.errors(403, 404, 422),
}


def addresses(settings: Settings) -> SignedAddresses:
    """Those of messages, named by their ids."""
    return SignedAddresses(settings, "/shared", purpose="shared emails")


def router(signed: SignedAddresses, forwarder: Forwarder) -> APIRouter:
    """The send API's part: the signature is looked at before anybody is asked."""
    routes = APIRouter(tags=["emails"])

    @routes.get(PATH, responses=RESPONSES)
    async def show_shared(request: Request, email_id: EmailId, expires: Expires, signature: str) -> Response:
        """A message as a page, as the address allows."""
        signed.check(parse_id(email_id), expires=expires, signature=signature)
        return await forwarder.forward(request)

    return routes
