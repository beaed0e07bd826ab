"""The one way to answer JSON."""

from typing import Any

import orjson
from fastapi import Response

HISTORY = "nightmail-history"  # `unavailable`: what only the database knows is missing
JSON = "application/json; charset=utf-8"


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON."""
    return Response(orjson.dumps(value), status, media_type=JSON)
