"""What readers of tracked mail ask for: its image, and its links. No key, no store, no redirect but to what we signed.

The answer comes first; the hit is told behind it (outbox/hits.py). HEAD and announced prefetches are answered and not
counted.
"""

from base64 import b64decode

from fastapi import APIRouter, Request, Response

from outbox.hits import Hits
from outbox.tracking import Tracking

_PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")  # GIF of one transparent point
_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex, nofollow",
}
_PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")  # headers in which programs announce a prefetch
_METHODS = ["GET", "HEAD"]


def router(tracking: Tracking, hits: Hits) -> APIRouter:
    """Both routes. They are for readers of mail, and so not in the description of the API."""
    routes = APIRouter(include_in_schema=False)

    @routes.api_route("/o/{message_id}/{at}/{signature}", methods=_METHODS)
    async def image(request: Request, message_id: str, at: str, signature: str) -> Response:
        """The image at the end of a tracked mail."""
        tracked = tracking.opened(message_id, at, signature)
        if tracked is None:
            return _nothing(request)
        if _counts(request):
            hits.opened(tracked, user_agent=_agent(request))
        return _answer(request, Response(_PIXEL, media_type="image/gif", headers=_HEADERS))

    @routes.api_route("/c/{message_id}/{at}/{signature}/{packed}", methods=_METHODS)
    async def link(request: Request, message_id: str, at: str, signature: str, packed: str) -> Response:
        """A link of a tracked mail: on to where it led."""
        found = tracking.clicked(message_id, at, signature, packed)
        if found is None:
            return _nothing(request)
        tracked, url = found
        if _counts(request):
            address = request.client.host if request.client else ""
            hits.clicked(tracked, url, ip_address=address, user_agent=_agent(request))
        return _answer(request, Response(status_code=302, headers=_HEADERS | {"location": url}))

    return routes


def _counts(request: Request) -> bool:
    said = " ".join(request.headers.get(name, "") for name in _PURPOSES).lower()
    return request.method == "GET" and "prefetch" not in said and "preview" not in said


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")


def _nothing(request: Request) -> Response:
    return _answer(request, Response("Not found\n", 404, media_type="text/plain", headers=_HEADERS))


def _answer(request: Request, response: Response) -> Response:
    """Anybody may ask, as often as he likes: counted in the metrics, and no line in the log for each."""
    request.scope["facts"]["untold"] = True
    return response
