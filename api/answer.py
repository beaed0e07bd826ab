"""The one way to answer JSON."""

from typing import Any

import orjson
from fastapi import Response
from starlette.types import Send

HISTORY = "nightmail-history"  # `unavailable`: what only the database knows is missing
JSON = "application/json; charset=utf-8"


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON."""
    return Response(orjson.dumps(value), status, media_type=JSON)


async def send_json(send: Send, value: Any) -> None:
    """The same with status 200, without an object between."""
    body = orjson.dumps(value)
    fields = [(b"content-length", b"%d" % len(body)), (b"content-type", JSON.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})
