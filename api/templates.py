"""Templates: /templates in Resend's form. Needs the queue, not the database."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from api import openapi
from api.answer import json_response
from api.auth import KeyGuard
from api.errors import invalid, missing, not_found
from api.names import read_name
from api.paging import DEFAULT, page
from api.present import timestamp
from api.request import Body, OneOrMany, decode, read
from api.spreading import everywhere
from outbox.policy import ApiKey
from outbox.template import Template, Variable, Version
from outbox.template_store import ROOM, AliasTaken, NoRoom, TemplateStore

_MOST_VARIABLES = 50
_LONGEST_BODY = 256 * 1024
_LONGEST_WORD = 998
_KEY = re.compile(r"[A-Za-z0-9_]{1,50}")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,100}")
_UUID_LIKE = re.compile(r"[0-9a-f-]{36}", re.IGNORECASE)  # it would be looked up as an id
_RESERVED = frozenset(
    {"FIRST_NAME", "LAST_NAME", "EMAIL", "UNSUBSCRIBE_URL", "RESEND_UNSUBSCRIBE_URL", "contact", "this"}
)


class VariableRequest(Body):
    """What may stand in a hole of the text."""

    key: str
    type: str
    fallback_value: Any = None


class TemplateRequest(Body):
    """What can be changed."""

    name: str | None = None
    alias: str | None = None
    sender: Annotated[str | None, Field(alias="from")] = None
    subject: str | None = None
    reply_to: OneOrMany | None = None
    html: str | None = None
    text: str | None = None
    variables: list[VariableRequest] | None = None


class NewTemplateRequest(TemplateRequest):
    """A template. Not sent before it is published."""

    name: str
    html: str


def router(store: TemplateStore, owner: KeyGuard) -> APIRouter:
    """Create, list, get, change, publish, duplicate, delete. Ids in paths may be aliases."""
    routes = APIRouter(prefix="/templates", tags=["templates"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.post(
        "", status_code=201, responses=openapi.errors(400, 422), openapi_extra=openapi.body_of(NewTemplateRequest)
    )
    async def create_template(request: Request, _key: Owner) -> Response:
        """A new draft."""
        wanted = read(NewTemplateRequest, decode(await request.body()))
        draft = _checked(Version(str(uuid4()), wanted.html, **_said(wanted)))
        with _refusals():
            template = await store.create(read_name(wanted.name, longest=_LONGEST_WORD), _alias(wanted.alias), draft)
        return _reference(template, 201)

    @routes.get("", responses=openapi.errors(422), openapi_extra=openapi.PAGE)
    async def list_templates(request: Request, _key: Owner) -> Response:
        """Templates without their texts, the newest first."""
        templates = await store.all()
        return json_response(page(request, templates, id_of=lambda one: one.id, shown=_brief, unasked=DEFAULT))

    @routes.get("/{template_id}", responses=openapi.errors(404))
    async def get_template(template_id: str, _key: Owner) -> Response:
        """The draft, which may be newer than what is sent."""
        return json_response(_whole(await _find(store, template_id)))

    @routes.patch(
        "/{template_id}", responses=openapi.errors(400, 404, 422), openapi_extra=openapi.body_of(TemplateRequest)
    )
    async def update_template(request: Request, template_id: str, _key: Owner) -> Response:
        """Change the draft. What is sent stays as it is until the next publish."""
        wanted = read(TemplateRequest, decode(await request.body()))
        template = await _find(store, template_id)
        with _refusals():
            return _reference(await store.change(template, _change(wanted)))

    @routes.post("/{template_id}/publish", responses=openapi.errors(404))
    async def publish_template(template_id: str, _key: Owner) -> Response:
        """Let the draft be what is sent."""
        published = await store.publish(await _find(store, template_id))
        await everywhere()
        return _reference(published)

    @routes.post("/{template_id}/duplicate", responses=openapi.errors(404, 422))
    async def duplicate_template(template_id: str, _key: Owner) -> Response:
        """A new draft of the same words, without the alias."""
        template = await _find(store, template_id)
        name = f"{template.name} (Copy)"[:_LONGEST_WORD]
        with _refusals():
            return _reference(await store.create(name, None, replace(template.draft, id=str(uuid4()))))

    @routes.delete("/{template_id}", responses=openapi.errors(404))
    async def delete_template(template_id: str, _key: Owner) -> Response:
        """Forget it. Mail that was made of it is delivered all the same."""
        template = await _find(store, template_id)
        if not await store.remove(template):
            raise not_found("Template")
        await everywhere()
        return json_response({"object": "template", "id": template.id, "deleted": True})

    return routes


async def _find(store: TemplateStore, wanted: str) -> Template:
    template = await store.find(wanted)
    if template is None:
        raise not_found("Template")
    return template


@contextmanager
def _refusals() -> Iterator[None]:
    """What the store refuses, in words for the client."""
    try:
        yield
    except AliasTaken as taken:
        raise invalid(f"Invalid `alias` field. Another template has the alias `{taken}`.") from taken
    except NoRoom as full:
        raise invalid(f"There is no room for more templates: all together may take {ROOM} bytes.") from full


def _change(wanted: TemplateRequest) -> Callable[[Template], Template]:
    """What the request makes of a template. Fields that it does not name stay; `null` takes one away."""
    said = _said(wanted) | ({"html": wanted.html} if wanted.html is not None else {})
    own: dict[str, Any] = {"name": read_name(wanted.name, longest=_LONGEST_WORD)} if wanted.name is not None else {}
    own |= {"alias": _alias(wanted.alias)} if "alias" in wanted.model_fields_set else {}
    version_id = str(uuid4())

    def changed(template: Template) -> Template:
        draft = _checked(replace(template.draft, id=version_id, **said)) if said else template.draft
        return replace(template, draft=draft, **own)

    return changed


def _said(wanted: TemplateRequest) -> dict[str, Any]:
    """The fields of a Version that the request names, less `html`."""
    said: dict[str, Any] = {
        name: getattr(wanted, name) for name in ("sender", "subject", "reply_to", "text", "variables")
    }
    said["reply_to"] = _all(wanted.reply_to)
    said["variables"] = tuple(map(_variable, wanted.variables or ()))
    return {name: value for name, value in said.items() if name in wanted.model_fields_set}


def _all(one_or_many: str | list[str] | None) -> tuple[str, ...]:
    return (one_or_many,) if isinstance(one_or_many, str) else tuple(one_or_many or ())


def _checked(version: Version) -> Version:
    """Only sizes and variables: an address with a hole in it can be judged when it is filled."""
    if not version.html.strip():
        raise missing("html")
    for field in ("html", "text"):
        if len(getattr(version, field) or "") > _LONGEST_BODY:
            raise invalid(f"Invalid `{field}` field. It may have up to {_LONGEST_BODY} characters.")
    for field, words in (("from", [version.sender]), ("subject", [version.subject]), ("reply_to", version.reply_to)):
        if any(len(word or "") > _LONGEST_WORD for word in words) or len(words) > _MOST_VARIABLES:
            raise invalid(f"Invalid `{field}` field. It is too long.")
    if len(version.variables) > _MOST_VARIABLES:
        raise invalid(f"Invalid `variables` field. A template may have up to {_MOST_VARIABLES} variables.")
    if len({variable.key for variable in version.variables}) < len(version.variables):
        raise invalid("Invalid `variables` field. A key is there twice.")
    return version


def _variable(wanted: VariableRequest) -> Variable:
    if not _KEY.fullmatch(wanted.key):
        raise invalid("Invalid `variables` field. A `key` may have up to 50 letters, digits and underscores.")
    if wanted.key in _RESERVED:
        raise invalid(f"Invalid `variables` field. The key `{wanted.key}` is reserved.")
    if wanted.type not in ("string", "number"):
        raise invalid(f"Invalid `variables` field. The `type` of `{wanted.key}` must be `string` or `number`.")
    variable = Variable(wanted.key, "string" if wanted.type == "string" else "number", wanted.fallback_value)
    if wanted.fallback_value is not None and not variable.accepts(wanted.fallback_value):
        raise invalid(f"Invalid `variables` field. The `fallback_value` of `{wanted.key}` must be a `{wanted.type}`.")
    return variable


def _alias(written: str | None) -> str | None:
    if not written:
        return None
    if not _ALIAS.fullmatch(written) or _UUID_LIKE.fullmatch(written):
        raise invalid("Invalid `alias` field. It may have up to 100 letters, digits, hyphens and underscores.")
    return written


def _reference(template: Template | None, status: int = 200) -> Response:
    if template is None:
        raise not_found("Template")
    return json_response({"object": "template", "id": template.id}, status)


def _brief(template: Template) -> dict[str, Any]:
    return {
        "id": template.id,
        "name": template.name,
        "alias": template.alias,
        "status": "published" if template.published else "draft",
        "published_at": timestamp(template.published_at) if template.published_at else None,
        "created_at": timestamp(template.created_at),
        "updated_at": timestamp(template.updated_at),
    }


def _whole(template: Template) -> dict[str, Any]:
    draft = template.draft
    return {
        "object": "template",
        **_brief(template),
        "current_version_id": draft.id,
        "from": draft.sender,
        "subject": draft.subject,
        "reply_to": list(draft.reply_to) or None,
        "html": draft.html,
        "text": draft.text,
        "variables": [asdict(variable) for variable in draft.variables],
        "has_unpublished_versions": template.has_unpublished_versions,
    }
