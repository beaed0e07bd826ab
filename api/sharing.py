"""Mail shown to whoever has its address (api/shares.py): the control API's part."""

import asyncio
import re
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from api import openapi
from api.answer import json_response
from api.auth import KeyGuard
from api.errors import invalid
from api.ids import EmailId, parse_id
from api.lookup import Lookup
from api.present import show
from api.request import Body, decode, read
from api.shared_page import SAFE, page_of
from api.shares import PATH, RESPONSES
from api.signed_addresses import Expires, SignedAddresses
from outbox.policy import ApiKey

LONGEST = timedelta(hours=48)
_DURATION = re.compile(r"([0-9]{1,6}) *([a-z]+)", re.IGNORECASE)
_UNITS = {
    "seconds": "s sec secs second seconds",
    "minutes": "m min mins minute minutes",
    "hours": "h hr hrs hour hours",
    "days": "d day days",
}
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in words.split()}


class ShareRequest(Body):
    """How long the address is to be valid: `10m`, `2 hours`, `1 day`; 48 hours at most, and unless told."""

    expires_in: str | None = None


def router(lookup: Lookup, signed: SignedAddresses, owner: KeyGuard) -> APIRouter:
    """Make an address, and show the page behind it."""
    routes = APIRouter(tags=["emails"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.post(
        "/emails/{email_id}/share",
        responses=openapi.errors(400, 404, 422),
        openapi_extra=openapi.body_of(ShareRequest, required=False),
    )
    async def share_email(request: Request, email_id: EmailId, _key: Owner) -> Response:
        """An address under which the message can be read without a key."""
        email_id, body = parse_id(email_id), await request.body()
        life = read_duration(read(ShareRequest, decode(body or b"{}")).expires_in)
        await lookup.view(email_id)
        url, _ = signed.of(email_id, life=life)
        return json_response({"object": "email", "id": email_id, "url": url})

    @routes.get(PATH, responses=RESPONSES)
    async def show_shared(email_id: EmailId, expires: Expires, signature: str) -> Response:
        """A message as a page, as the address allows."""
        email_id = parse_id(email_id)
        signed.check(email_id, expires=expires, signature=signature)
        email = await show(await lookup.view(email_id))
        return HTMLResponse(await asyncio.to_thread(page_of, email), headers=SAFE)

    return routes


def read_duration(written: str | None) -> timedelta:
    """The time that `expires_in` says. Raises ApiError 422."""
    if written is None:
        return LONGEST
    found = _DURATION.fullmatch(written.strip())
    unit = _UNIT_OF.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise invalid("Invalid `expires_in` field. It must be a duration such as `10m`, `2 hours` or `1 day`.")
    life = timedelta(**{unit: int(found[1])})
    if not timedelta(0) < life <= LONGEST:
        raise invalid("Invalid `expires_in` field. It must be more than 0 and up to 48 hours.")
    return life
