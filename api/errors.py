"""The one place that knows how an error looks: always JSON, always {"statusCode", "name", "message"}, never internals.

Names, statuses and messages are Resend's where it has them, because callers match on them.
"""

from datetime import timedelta
from math import ceil

from fastapi import FastAPI, Request, Response
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from api.answer import json_response
from outbox.errors import Full, IdempotencyConflict, Overloaded, TooLarge, Unavailable
from runtime.logs import get

log = get(__name__)


class ApiError(Exception):
    """A refusal the client may read."""

    def __init__(self, status: int, name: str, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.name = name
        self.message = message
        self.retry_after = retry_after


def invalid(message: str, *, status: int = 422) -> ApiError:
    """Something in the request is wrong."""
    return ApiError(status, "validation_error", message)


def invalid_parameter(name: str, why: str) -> ApiError:
    """A parameter of the query is wrong."""
    return invalid(f"Invalid `{name}` parameter. {why}")


def missing(field: str) -> ApiError:
    """A required field is not there."""
    return ApiError(422, "missing_required_field", f"Missing `{field}` field.")


def not_found(what: str) -> ApiError:
    """Nothing of that id is known."""
    return ApiError(404, "not_found", f"{what} not found")


def unavailable(retry_after: timedelta = timedelta(seconds=1)) -> ApiError:
    """A fault of ours that passes: the client should come again."""
    return ApiError(503, "service_unavailable", "API is temporarily unavailable", retry_after=retry_after)


NO_ENDPOINT = ApiError(404, "not_found", "The requested endpoint does not exist.")
NO_METHOD = ApiError(405, "method_not_allowed", "Method is not allowed for the requested path.")
UNEXPECTED = ApiError(500, "internal_server_error", "An unexpected error occurred.")
TOO_LARGE = ApiError(413, "validation_error", "The emails of this request are too large together.")
CONFLICT = ApiError(
    409,
    "invalid_idempotent_request",
    "This idempotency key has been used with this HTTP method and endpoint within the last 24 hours, "
    "but the request body was modified and doesn't match the original request.",
)
TOLD = (ApiError, Unavailable, TooLarge, IdempotencyConflict, HTTPException, RedisError, OSError)
_FINAL = {TooLarge: TOO_LARGE, IdempotencyConflict: CONFLICT}
_ROUTING = {404: NO_ENDPOINT, 405: NO_METHOD}


def respond(error: ApiError) -> Response:
    """The error as a response."""
    body = {"statusCode": error.status, "name": error.name, "message": error.message}
    response = json_response(body, error.status)
    if error.retry_after is not None:
        response.headers["retry-after"] = str(max(1, ceil(error.retry_after.total_seconds())))
    return response


def of(failure: Exception) -> ApiError:
    """What the client is told about an exception."""
    match failure:
        case ApiError():
            return failure
        case Unavailable():
            return _of_unavailable(failure)
        case TooLarge() | IdempotencyConflict():
            return _FINAL[type(failure)]
        case HTTPException():
            return _ROUTING.get(failure.status_code, UNEXPECTED)
        case RedisError() | OSError():  # TimeoutError is an OSError
            return unavailable()
    return UNEXPECTED


def _of_unavailable(failure: Unavailable) -> ApiError:
    match failure:
        case Full():
            message = "There is no room for more emails now. Try again later."
            return ApiError(507, "insufficient_storage", message, retry_after=failure.retry_after)
        case Overloaded():
            message = "Too many requests at once. Try again later."
            return ApiError(429, "rate_limit_exceeded", message, retry_after=failure.retry_after)
    return unavailable(failure.retry_after)


def told(scope: Scope, failure: Exception) -> Response:
    """What is said to an exception of `TOLD`, and a line in the log where it is none of ours."""
    error = of(failure)
    scope["facts"]["error"] = error.name
    if not isinstance(failure, ApiError | HTTPException):
        log.warning("request.hindered", error=f"{type(failure).__name__}: {failure}"[:200])
    response = respond(error)
    scope["facts"]["refusal"] = response.body
    return response


async def _answer(request: Request, failure: Exception) -> Response:
    return told(request.scope, failure)


async def _surprised(_request: Request, _failure: Exception) -> Response:
    return respond(UNEXPECTED)


def install(app: FastAPI) -> None:
    """Let `app` answer these exceptions as `of` says. What is left becomes a 500, and goes on to api/frame.py."""
    for kind in TOLD:
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(Exception, _surprised)
