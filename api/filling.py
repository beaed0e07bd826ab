"""An email that names a template: the template's words, where the request has none of its own."""

from typing import Any, Protocol

from api.errors import invalid, missing, not_found, unavailable
from outbox.template import BadVariable, Version
from outbox.template_store import Objects, published


class Templates(Objects, Protocol):
    """A Policy, as far as it is asked here."""

    @property
    def is_fresh(self) -> bool:
        """Whether it may say that something does not exist."""


def filled(item: Any, templates: Templates) -> Any:
    """The request as if its words had been written out. Without `template` it is as it came. Raises ApiError."""
    if not isinstance(item, dict) or item.get("template") is None:
        return item
    if item.get("html") is not None or item.get("text") is not None:
        raise invalid("Invalid `template` field. It cannot be used together with `html` or `text`.")
    named = item["template"]
    if not isinstance(named, dict):
        raise invalid("Invalid `template` field. It must be an object with `id` and `variables`.")
    version = _version(named.get("id"), templates)
    try:
        words = version.filled(_given(named.get("variables")))
    except BadVariable as wrong:
        raise invalid(str(wrong)) from wrong
    return words | {name: value for name, value in item.items() if name != "template" and value is not None}


def _version(wanted: Any, templates: Templates) -> Version:
    if wanted is None or wanted == "":
        raise missing("template.id")
    if not isinstance(wanted, str):
        raise invalid("Invalid `template` field. `id` must be the id or alias of a template.")
    try:
        version = published(templates, wanted)
    except LookupError as draft:
        raise invalid("Invalid `template` field. The template is not published.") from draft
    if version is None:
        if not templates.is_fresh:  # it may have been made while we could not look
            raise unavailable()
        raise not_found("Template")
    return version


def _given(variables: Any) -> dict[str, Any]:
    if variables is None:
        return {}
    if not isinstance(variables, dict):
        raise invalid("Invalid `template` field. `variables` must be an object.")
    return variables
