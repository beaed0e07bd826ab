"""What readers of tracked mail ask for: its image, and its links. No key, no store, no redirect but to what we signed.

The answer comes first; the hit is told behind it (outbox/hits.py). HEAD and announced prefetches are answered and not
counted. All of it is done in front of the routes: a crowd of readers must cost those who send as little as can be.
"""

from base64 import b64decode

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from outbox.hits import Hits
from outbox.tracking import Tracking

_PIXEL = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")  # GIF of one transparent point
_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex, nofollow",
}
_METHODS = frozenset({"GET", "HEAD"})
_PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")  # headers in which programs announce a prefetch
_LONGEST_ADDRESS = 45  # an IPv6 address, and no more of what a proxy may pass on for one
_IMAGE, _LINK = "/o/", "/c/"


class Readers:
    """Answers readers. One per app."""

    def __init__(self, tracking: Tracking, hits: Hits) -> None:
        self._tracking = tracking
        self._hits = hits

    def answer(self, request: Request) -> Response:
        """The image, the way on, or a plain 404."""
        words = request.scope["path"][len(_IMAGE) :].split("/")
        is_link = request.scope["path"].startswith(_LINK)
        if is_link and len(words) == 4:  # noqa: PLR2004 - as outbox/tracking.py writes them
            return self._link(request, *words)
        if not is_link and len(words) == 3:  # noqa: PLR2004
            return self._image(request, *words)
        return _nothing()

    def _image(self, request: Request, message_id: str, at: str, signature: str) -> Response:
        tracked = self._tracking.opened(message_id, at, signature)
        if tracked is None:
            return _nothing()
        if _counts(request):
            self._hits.opened(tracked, user_agent=_agent(request))
        return Response(_PIXEL, media_type="image/gif", headers=_HEADERS)

    def _link(self, request: Request, message_id: str, at: str, signature: str, packed: str) -> Response:
        found = self._tracking.clicked(message_id, at, signature, packed)
        if found is None:
            return _nothing()
        tracked, url = found
        if _counts(request):
            address = request.client.host[:_LONGEST_ADDRESS] if request.client else ""
            self._hits.clicked(tracked, url, ip_address=address, user_agent=_agent(request))
        return Response(status_code=302, headers=_HEADERS | {"location": url})


class ReadersFirst:
    """Middleware: what is for `readers` goes there."""

    def __init__(self, app: ASGIApp, *, readers: Readers) -> None:
        self._app = app
        self._readers = readers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        path = scope["path"][: len(_IMAGE)] if scope["type"] == "http" and scope["method"] in _METHODS else ""
        if path not in (_IMAGE, _LINK):
            await self._app(scope, receive, send)
            return
        # Anybody may ask, as often as he likes: counted in the metrics, and no line in the log for each.
        scope["facts"] |= {"route": path, "untold": True}
        response = self._readers.answer(Request(scope))
        await response(scope, receive, send)


def _counts(request: Request) -> bool:
    said = " ".join(request.headers.get(name, "") for name in _PURPOSES).lower()
    return request.method == "GET" and "prefetch" not in said and "preview" not in said


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")


def _nothing() -> Response:
    return Response("Not found\n", 404, media_type="text/plain", headers=_HEADERS)
