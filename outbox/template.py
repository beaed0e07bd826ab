"""Templates: a text with holes for variables, a draft that changes and a published version that is sent. Pure.

A hole is `{{{NAME}}}` or `{{{NAME|fallback}}}`. Values go in as they are, once: nothing is escaped, evaluated or
looked at again, so a value that looks like a hole stays what it is.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, Self

import orjson

from runtime.clock import from_ms, to_ms

HOLE = re.compile(r"\{\{\{\s*([A-Za-z0-9_]{1,50})\s*(?:\|([^{}]*))?\}\}\}")
Value = str | int | float
VariableType = Literal["string", "number"]


class BadVariable(ValueError):
    """A variable is missing or of the wrong type; the message says which, for the client."""


@dataclass(frozen=True, slots=True)
class Variable:
    """What may stand in a hole; without a `fallback_value` the sender has to say."""

    key: str
    type: VariableType
    fallback_value: Value | None = None

    def accepts(self, value: Any) -> bool:
        """Whether a value is of its type. True and False are no numbers."""
        if self.type == "string":
            return isinstance(value, str)
        return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Version:
    """What a template says at one time. `text` None: made from the HTML when it is sent."""

    id: str
    html: str
    sender: str | None = None
    subject: str | None = None
    reply_to: tuple[str, ...] = ()
    text: str | None = None
    variables: tuple[Variable, ...] = ()

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of `asdict`."""
        return cls(
            **fields
            | {"reply_to": tuple(fields["reply_to"]), "variables": tuple(Variable(**v) for v in fields["variables"])}
        )

    def filled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of an email that this version has something to say about. Raises BadVariable."""
        values = _values(self.variables, given)
        fields = {"from": self.sender, "subject": self.subject, "html": self.html, "text": self.text}
        said = {name: fill(text, values) for name, text in fields.items() if text is not None}
        return said | ({"reply_to": [fill(one, values) for one in self.reply_to]} if self.reply_to else {})


@dataclass(frozen=True, slots=True)
class Template:
    """A named template. Only what was published is ever sent."""

    id: str
    name: str
    alias: str | None
    created_at: datetime
    updated_at: datetime
    draft: Version
    published: Version | None = None
    published_at: datetime | None = None

    @property
    def has_unpublished_versions(self) -> bool:
        """Whether the draft is not what is sent."""
        return self.published is None or self.published.id != self.draft.id

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, instants as milliseconds."""
        fields = asdict(self)
        for name in ("created_at", "updated_at", "published_at"):
            fields[name] = to_ms(fields[name]) if fields[name] else None
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        at = {name: from_ms(fields[name]) for name in ("created_at", "updated_at", "published_at") if fields[name]}
        published = Version.from_dict(fields["published"]) if fields["published"] else None
        return cls(**fields | at | {"draft": Version.from_dict(fields["draft"]), "published": published})


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its holes filled. Raises BadVariable for one that has neither value nor fallback."""

    def value(hole: re.Match[str]) -> str:
        name, fallback = hole[1], hole[2]
        if name in values:
            return values[name]
        if fallback is None:
            raise BadVariable(f'Missing value for variable "{name}".')
        return fallback

    return HOLE.sub(value, text)


def _values(variables: tuple[Variable, ...], given: Mapping[str, Any]) -> dict[str, str]:
    """Every value as text. What is not declared takes any string or number."""
    declared = {variable.key: variable for variable in variables}
    values = {v.key: _written(v.fallback_value) for v in variables if v.fallback_value is not None}
    for key, value in given.items():
        variable = declared.get(key) or Variable(key, "string" if isinstance(value, str) else "number")
        if not variable.accepts(value):
            raise BadVariable(f'Variable "{key}" must be a `{variable.type}`.')
        values[key] = _written(value)
    return values


def _written(value: Value) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
