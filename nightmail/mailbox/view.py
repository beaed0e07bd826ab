"""The mailbox over HTTP: a page for people, JSON for programs. Everything shown is hostile until escaped."""

from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.responses import HTMLResponse

from nightmail.mailbox import page
from nightmail.mailbox.headers import headers, parsed, parts
from nightmail.mailbox.store import Search, Store

# A mail's HTML may bring its styles and inline pictures, and nothing else: no script, no request to anybody.
_MAIL_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'self'"
_PAGE_HEADERS = {"Content-Security-Policy": _PAGE_POLICY, "Referrer-Policy": "no-referrer"}

Limit = Annotated[int, Query(ge=1, le=10_000)]


def create_view(store: Store) -> FastAPI:
    """The application. Handlers are plain functions, so their queries run in threads beside the SMTP loop."""
    app = FastAPI(title="Nightmail mailbox", docs_url=None, redoc_url=None, openapi_url=None)
    _add_json(app, store)
    _add_pages(app, store)
    return app


def _found(store: Store, number: int) -> tuple[dict[str, Any], bytes]:
    found = store.get(number)
    if found is None:
        raise HTTPException(404, "No such message")
    return found


def _add_json(app: FastAPI, store: Store) -> None:
    @app.get("/count")
    def count() -> dict[str, int]:
        return store.count()

    @app.get("/messages")
    def messages(limit: Limit = 100, after: int | None = None, to: str = "", subject: str = "") -> dict[str, Any]:
        """Newest first; with `after` those numbered above it, upwards, for a reader that follows."""
        return {"data": store.find(Search(limit=limit, after=after, to=to, subject=subject))}

    @app.get("/messages/{number}")
    def message(number: int) -> dict[str, Any]:
        summary, content = _found(store, number)
        tree = parsed(content)
        return summary | {"headers": headers(tree), "parts": parts(tree), "raw": content.decode("utf-8", "replace")}

    @app.get("/messages/{number}/raw")
    def raw(number: int) -> Response:
        disposition = {"Content-Disposition": f'attachment; filename="{number}.eml"'}
        return Response(_found(store, number)[1], media_type="message/rfc822", headers=disposition)

    @app.delete("/messages")
    def clear() -> dict[str, int]:
        return {"deleted": store.clear()}

    @app.get("/livez")
    def livez() -> dict[str, str]:
        return {"status": "ok"}


def _add_pages(app: FastAPI, store: Store) -> None:
    @app.get("/")
    def index(to: str = "", subject: str = "", limit: Limit = 100) -> HTMLResponse:
        search = Search(limit=limit, to=to, subject=subject)
        return HTMLResponse(page.index(store.find(search), search, store.count()), headers=_PAGE_HEADERS)

    @app.get("/view/{number}")
    def view(number: int) -> HTMLResponse:
        summary, content = _found(store, number)
        tree = parsed(content)
        return HTMLResponse(page.message(summary, headers(tree), parts(tree)), headers=_PAGE_HEADERS)

    @app.get("/view/{number}/html")
    def html(number: int) -> HTMLResponse:
        leaves = parts(parsed(_found(store, number)[1]))
        body = next((leaf["text"] for leaf in leaves if leaf["content_type"] == "text/html" and leaf["text"]), "")
        policy = {"Content-Security-Policy": _MAIL_POLICY, "Referrer-Policy": "no-referrer"}
        return HTMLResponse(body, headers=policy)
