"""Files of sent mail: listed with addresses that are signed and expire, and fetched from there without a key.

The addresses lead to the send API, which passes them on to the control API (api/files.py) once their signature fits.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from api import openapi
from api.errors import ApiError
from api.forward import Forwarder
from api.ids import EmailId, ObjectId, parse_id
from runtime.secret import load_secret
from runtime.settings import Settings
from runtime.signing import Signer

LIFE = timedelta(hours=1)
_BAD = ApiError(403, "validation_error", "The download address is not valid, or has expired.")

Expires = Annotated[str, Path(description="Unix time")]


class Addresses:
    """Makes the addresses and checks them."""

    def __init__(self, settings: Settings, *, now: Callable[[], float] = time.time) -> None:
        self._signer = Signer(load_secret(settings), "attachment downloads")
        self._base = settings.public
        self._now = now

    def of(self, email_id: str, file_id: str) -> tuple[str, float]:
        """The address of a file, and when it expires in Unix time."""
        expires = int(self._now() + LIFE.total_seconds())
        signature = self._signer.sign(email_id, file_id, str(expires))
        return f"{self._base}/downloads/{email_id}/{file_id}/{expires}/{signature}", expires

    def check(self, email_id: str, file_id: str, expires: str, signature: str) -> None:
        """Raises ApiError 403 when the address is not ours, or too old."""
        if not self._signer.fits(signature, email_id, file_id, expires) or int(expires) < self._now():
            raise _BAD


def router(addresses: Addresses, forwarder: Forwarder) -> APIRouter:
    """The send API's part: the signature is looked at before anybody is asked."""
    routes = APIRouter(tags=["emails"])

    @routes.get("/downloads/{email_id}/{file_id}/{expires}/{signature}", responses=openapi.errors(403, 404, 422))
    async def download(
        request: Request, email_id: EmailId, file_id: ObjectId, expires: Expires, signature: str
    ) -> Response:
        """A file of a sent message, as the address allows."""
        addresses.check(parse_id(email_id), parse_id(file_id), expires, signature)
        return await forwarder.forward(request)

    return routes
