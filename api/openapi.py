"""What the apps say about themselves in /openapi.json: bodies that handlers read themselves, and errors."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.present import Problem
from api.request import ChaosRequest, EmailRequest, RescheduleRequest

_REFERENCE = "#/components/schemas/{model}"
_WORDS = {
    400: "The request cannot be read",
    401: "The API key is missing, unknown or restricted",
    403: "The sender is not allowed",
    404: "There is no such thing",
    405: "The path has no such method",
    409: "Something else happened first",
    413: "The body is too large",
    422: "A field is missing or wrong",
    429: "Too many requests",
    500: "A fault of the server",
    507: "The server has no room now; Retry-After says when to come again",
    503: "The server cannot answer now; Retry-After says when to come again",
}


# By its name alone: a model would be compiled anew for each status of each route, a quarter of a second at each start.
_PROBLEM = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=Problem.__name__)}}}

_MODES = {"type": "string", "enum": ["strict", "permissive"], "default": "strict"}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may refuse in these ways, beside those that every route has."""
    return {status: {"description": _WORDS[status], "content": _PROBLEM} for status in (401, 429, 500, 503, *statuses)}


def body(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its JSON body itself."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def body_of(shape: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The same, from the shape that the handler reads it with."""
    return body(shape.model_json_schema(ref_template=_REFERENCE), required=required)


def _header(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": schema}


IDEMPOTENCY_KEY = {"parameters": [_header("Idempotency-Key", {"type": "string", "minLength": 1, "maxLength": 256})]}
ONE_EMAIL = body({"$ref": _REFERENCE.format(model=EmailRequest.__name__)}) | IDEMPOTENCY_KEY
CHAOS = body({"$ref": _REFERENCE.format(model=ChaosRequest.__name__)})
NEW_TIME = body({"$ref": _REFERENCE.format(model=RescheduleRequest.__name__)})


PAGE: dict[str, Any] = {
    "parameters": [
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}},
        {"name": "after", "in": "query", "schema": {"type": "string", "format": "uuid"}, "description": "Older ones"},
        {"name": "before", "in": "query", "schema": {"type": "string", "format": "uuid"}, "description": "Newer ones"},
    ]
}


SEARCH_WORDS = {
    "to": "Address of a recipient",
    "from": "Envelope sender",
    "domain": "Domain of a recipient",
    "subject": "Words in the subject; slow without dates",
    "status": "Its `last_event`",
    "tag": "`name` or `name:value`",
    "since": "ISO 8601; from then on",
    "until": "ISO 8601; before then",
}
SEARCH = {
    "parameters": PAGE["parameters"]
    + [
        {"name": word, "in": "query", "schema": {"type": "string"}, "description": meaning}
        for word, meaning in SEARCH_WORDS.items()
    ]
}


def many_emails(most: int) -> dict[str, Any]:
    """The body of a batch."""
    items = {"$ref": _REFERENCE.format(model=EmailRequest.__name__)}
    schema = {"type": "array", "minItems": 1, "maxItems": most, "items": items}
    return body(schema) | {"parameters": IDEMPOTENCY_KEY["parameters"] + [_header("x-batch-validation", _MODES)]}


def document(app: FastAPI) -> None:
    """Let the app's /openapi.json also define the bodies above."""

    def generate() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_bodies(get_openapi(title=app.title, version=app.version, routes=app.routes))
        return app.openapi_schema

    app.openapi = generate  # type: ignore[method-assign]


def _with_bodies(schema: dict[str, Any]) -> dict[str, Any]:
    bodies = (EmailRequest, RescheduleRequest, ChaosRequest)
    models = [(Problem, "serialization"), *((body, "validation") for body in bodies)]
    _, definitions = models_json_schema(models, ref_template=_REFERENCE)  # type: ignore[arg-type]
    schema["components"]["schemas"] |= definitions["$defs"]
    for operation in (operation for path in schema["paths"].values() for operation in path.values()):
        for media in operation.get("requestBody", {}).get("content", {}).values():
            schema["components"]["schemas"] |= media["schema"].pop("$defs", {})
    return schema
