"""The bodies of POST /emails, POST /emails/batch and PATCH /emails/{id} as they come in: JSON, then shapes.

What the fields mean is checked in api/compose.py; here only that they are there and of the right type.
"""

from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from api.errors import ApiError, invalid, missing

OneOrMany = Annotated[str | list[str], Field(union_mode="left_to_right")]

Shape = TypeVar("Shape", bound=BaseModel)

_CONTENT_SCHEMA = {
    "description": "The octets: base64, or an array of integers, or a Node.js Buffer as JSON.",
    "anyOf": [
        {"type": "string", "contentEncoding": "base64"},
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
        {
            "type": "object",
            "properties": {
                "type": {"const": "Buffer"},
                "data": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
            },
            "required": ["type", "data"],
        },
    ],
}


class Body(BaseModel):
    """What all bodies have in common: unknown fields are left aside."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class AttachmentRequest(Body):
    """A file beside the text."""

    content: Annotated[Any, Field(json_schema_extra=_CONTENT_SCHEMA)] = None
    filename: str | None = None
    path: Annotated[str | None, Field(description="URL to fetch it from, in the place of `content`.")] = None
    content_type: str | None = None
    content_id: Annotated[str | None, Field(validation_alias=AliasChoices("content_id", "inline_content_id"))] = None


class TagRequest(Body):
    """A word of the client's own on a message."""

    name: Annotated[str, Field(json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,256}$"})]
    value: Annotated[str, Field(json_schema_extra={"pattern": "^[A-Za-z0-9_-]{1,256}$"})]


class TemplateUse(Body):
    """A published template, and what goes into its holes. Its words are used where the request has none."""

    id: Annotated[str, Field(description="Its id or alias.")]
    variables: dict[str, str | int | float] | None = None


def _or_template(schema: dict[str, Any]) -> None:
    """What is required may come from the template, and is there when the shape is read (api/filling.py)."""
    schema["required"] = ["to"]
    schema["anyOf"] = [{"required": ["from", "subject"]}, {"required": ["template"]}]


class EmailRequest(Body):
    """One message to send. Needs `html`, `text` or `template`; without `text` one is made from the HTML."""

    model_config = ConfigDict(json_schema_extra=_or_template)

    sender: Annotated[str, Field(alias="from", description="`a@b.c` or `Name <a@b.c>`")]
    to: OneOrMany
    subject: str
    cc: OneOrMany | None = None
    bcc: OneOrMany | None = None
    reply_to: OneOrMany | None = None
    html: str | None = None
    text: str | None = None
    headers: dict[str, str] | None = None
    attachments: list[AttachmentRequest] | None = None
    tags: list[TagRequest] | None = None
    scheduled_at: Annotated[str | None, Field(description="ISO 8601, or words such as `in 1 hour`")] = None
    template: Annotated[TemplateUse | None, Field(description="In the place of `html` and `text`.")] = None
    topic_id: Annotated[str | None, Field(description="Not supported yet.")] = None


class RescheduleRequest(Body):
    """The only thing that can change."""

    scheduled_at: str


class ChaosRequest(Body):
    """What the database is to do, and for how long before it is itself again."""

    mode: Annotated[str, Field(json_schema_extra={"enum": ["up", "down", "slow", "exhausted", "dropped"]})]
    for_seconds: Annotated[float, Field(ge=1, le=3600)] = 60


def decode(body: bytes) -> Any:
    """The JSON of a body. Raises ApiError 400 when it is none, or nested beyond reason."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as garbage:
        raise invalid("The request body is not valid JSON.", status=400) from garbage


def read_email(item: Any) -> EmailRequest:
    """The shape of one message. Raises ApiError 422 for the first field that is wrong."""
    return read(EmailRequest, item)


def read_reschedule(item: Any) -> RescheduleRequest:
    """The shape of a change. Raises ApiError 422."""
    return read(RescheduleRequest, item)


def read_chaos(item: Any) -> ChaosRequest:
    """The shape of a switch. Raises ApiError 422."""
    return read(ChaosRequest, item)


def read(shape: type[Shape], item: Any) -> Shape:
    """A body of any shape. Raises ApiError 422 for the first field that is wrong."""
    if not isinstance(item, dict):
        raise invalid("The request body must be a JSON object.")
    try:
        return shape.model_validate(item)
    except ValidationError as wrong:
        raise _first(wrong) from wrong


def _first(wrong: ValidationError) -> ApiError:
    error = wrong.errors(include_url=False, include_context=False)[0]
    steps = [str(step) for step in error["loc"] if not _is_variant(step)]
    if error["type"] == "missing" or (error["input"] is None and len(steps) == 1):
        return missing(steps[-1])
    place = ".".join(steps)
    return invalid(f"Invalid `{steps[0]}` field. At `{place}`: {error['msg'][0].lower()}{error['msg'][1:]}.")


def _is_variant(step: int | str) -> bool:
    """Whether pydantic names a branch of a union there, which is no part of the request."""
    return isinstance(step, str) and ("[" in step or step == "str")
