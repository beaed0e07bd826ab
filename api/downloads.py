"""Files of sent mail: listed with addresses that are signed and expire, and fetched from there without a key.

The addresses lead to the send API, which passes them on to the control API (api/files.py) once their signature fits.
"""

import time
from collections.abc import Callable
from datetime import timedelta

from fastapi import APIRouter, Request, Response

from api import openapi
from api.forward import Forwarder
from api.ids import EmailId, ObjectId, parse_id
from api.signed_addresses import Expires, SignedAddresses
from runtime.settings import Settings

LIFE = timedelta(hours=1)
PATH = "/downloads/{email_id}/{file_id}/{expires}/{signature}"


def addresses(settings: Settings, *, now: Callable[[], float] = time.time) -> SignedAddresses:
    """Those of files, named by the ids of message and file."""
    return SignedAddresses(settings, "/downloads", purpose="attachment downloads", now=now)


def router(signed: SignedAddresses, forwarder: Forwarder) -> APIRouter:
    """The send API's part: the signature is looked at before anybody is asked."""
    routes = APIRouter(tags=["emails"])

    @routes.get(PATH, responses=openapi.errors(403, 404, 422))
    async def download(
        request: Request, email_id: EmailId, file_id: ObjectId, expires: Expires, signature: str
    ) -> Response:
        """A file of a sent message, as the address allows."""
        signed.check(parse_id(email_id), parse_id(file_id), expires=expires, signature=signature)
        return await forwarder.forward(request)

    return routes
