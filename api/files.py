"""Files of sent mail, read out of the octets that were sent: the control API's part."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID, uuid5

from fastapi import APIRouter, Depends, Request, Response

from api import openapi
from api.answer import json_response
from api.auth import KeyGuard
from api.downloads import LIFE, PATH
from api.errors import not_found
from api.ids import EmailId, ObjectId, parse_id
from api.lookup import Lookup
from api.paging import page
from api.signed_addresses import Expires, SignedAddresses
from outbox.content import File, files
from outbox.policy import ApiKey

Named = tuple[str, File]
# A file of a stranger is never shown as a page of this host.
_SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "cache-control": "private, no-store",
}


def router(lookup: Lookup, addresses: SignedAddresses, owner: KeyGuard) -> APIRouter:
    """List, get, download."""
    routes = APIRouter(tags=["emails"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.get("/emails/{email_id}/attachments", responses=openapi.errors(404, 422), openapi_extra=openapi.PAGE)
    async def list_attachments(request: Request, email_id: EmailId, _key: Owner) -> Response:
        """The files of a message, with addresses to fetch them from within the hour."""
        email_id = parse_id(email_id)
        found = await _files(lookup, email_id)

        def shown(named: Named) -> dict[str, Any]:
            return _shown(addresses, email_id, named)

        return json_response(page(request, found, id_of=lambda named: named[0], shown=shown))

    @routes.get("/emails/{email_id}/attachments/{attachment_id}", responses=openapi.errors(404, 422))
    async def get_attachment(email_id: EmailId, attachment_id: ObjectId, _key: Owner) -> Response:
        """One file of a message."""
        email_id = parse_id(email_id)
        named = _one(await _files(lookup, email_id), parse_id(attachment_id))
        return json_response({"object": "attachment", **_shown(addresses, email_id, named)})

    @routes.get(PATH, responses=openapi.errors(403, 404, 422))
    async def download(email_id: EmailId, file_id: ObjectId, expires: Expires, signature: str) -> Response:
        """A file of a sent message, as the address allows."""
        email_id, file_id = parse_id(email_id), parse_id(file_id)
        addresses.check(email_id, file_id, expires=expires, signature=signature)
        _, file = _one(await _files(lookup, email_id), file_id)
        name = quote(file.filename or "attachment", safe="")
        headers = _SAFE | {"content-disposition": f"attachment; filename*=utf-8''{name}"}
        return Response(file.content, media_type=file.content_type, headers=headers)

    return routes


async def _files(lookup: Lookup, email_id: str) -> list[Named]:
    """The files with their ids, which follow from the message's id and their place in it."""
    view = await lookup.view(email_id)
    found = await asyncio.to_thread(files, view.content or b"")
    return [(str(uuid5(UUID(email_id), str(place))), file) for place, file in enumerate(found)]


def _one(found: Sequence[Named], file_id: str) -> Named:
    for named in found:
        if named[0] == file_id:
            return named
    raise not_found("Attachment")


def _shown(addresses: SignedAddresses, email_id: str, named: Named) -> dict[str, Any]:
    file_id, file = named
    url, expires = addresses.of(email_id, file_id, life=LIFE)
    return {
        "id": file_id,
        "filename": file.filename or None,
        "size": len(file.content),
        "content_type": file.content_type,
        "content_disposition": file.disposition,
        "content_id": file.content_id or None,
        "download_url": url,
        "expires_at": datetime.fromtimestamp(expires, UTC).isoformat().replace("+00:00", "Z"),
    }
