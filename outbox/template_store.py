"""Keeps templates among the policy objects, so that every process has them in memory and none needs the database."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol
from uuid import uuid4

import orjson

from outbox.policy_store import PolicyStore
from outbox.template import Template, Version
from runtime import clock

KIND = "template"
ALIAS = "template_alias"  # its objects are {"id": ...}
ROOM = 8 * 1024 * 1024  # octets of all templates: each process fetches them again whenever some policy changes


class AliasTaken(Exception):
    """Another template has this alias."""


class NoRoom(Exception):
    """The templates would take more than ROOM."""


class Objects(Protocol):
    """Where a template is looked up: the Policy of a process."""

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """One object."""


def published(objects: Objects, wanted: str) -> Version | None:
    """What is sent for an id or alias: None when there is no such template. Raises LookupError if it is a draft."""
    found = objects.get(KIND, wanted.lower())
    if found is None and (alias := objects.get(ALIAS, wanted)):
        found = objects.get(KIND, alias["id"])
        found = found if found and found["alias"] == wanted else None
    if found is None:
        return None
    if found["published"] is None:
        raise LookupError(wanted)
    return Version.from_dict(found["published"])


class TemplateStore:
    """Reads and changes templates. Readers elsewhere notice within a second (see outbox/policy.py)."""

    def __init__(self, store: PolicyStore, *, now: Callable[[], datetime] = clock.now) -> None:
        self._store = store
        self._now = now

    async def create(self, name: str, alias: str | None, draft: Version) -> Template:
        """A new template, not published yet. Raises AliasTaken, NoRoom."""
        now = self._now()
        template = Template(str(uuid4()), name, alias, now, now, draft)
        await self._require_room(template)
        await self._claim(alias, template.id)
        await self._store.put(KIND, template.id, template.to_dict())
        return template

    async def all(self) -> list[Template]:
        """All templates, the newest first."""
        templates = [Template.from_dict(value) for value in (await self._store.all(KIND)).values()]
        return sorted(templates, key=lambda template: (template.created_at, template.id), reverse=True)

    async def find(self, wanted: str) -> Template | None:
        """The template of an id or alias."""
        value = await self._store.get(KIND, wanted.lower())
        if value is None and (alias := await self._store.get(ALIAS, wanted)):
            value = await self._store.get(KIND, alias["id"])
            value = value if value and value["alias"] == wanted else None
        return Template.from_dict(value) if value else None

    async def change(self, template: Template, make: Callable[[Template], Template]) -> Template | None:
        """What `make` says of it as it is now; None when it is gone. Raises AliasTaken, NoRoom."""
        wanted = make(template)
        await self._require_room(wanted)
        if wanted.alias != template.alias:
            await self._claim(wanted.alias, template.id)

        def changed(value: dict[str, Any] | None) -> dict[str, Any] | None:
            return replace(make(Template.from_dict(value)), updated_at=self._now()).to_dict() if value else None

        made = await self._store.change(KIND, template.id, changed)
        if made and template.alias and made["alias"] != template.alias:
            await self._store.remove(ALIAS, template.alias)
        return Template.from_dict(made) if made else None

    async def publish(self, template: Template) -> Template | None:
        """Let the draft be what is sent. None when it is gone."""
        now = self._now()
        return await self.change(template, lambda there: replace(there, published=there.draft, published_at=now))

    async def remove(self, template: Template) -> bool:
        """Forget it. Mail that was made of it is not touched. False: it was gone already."""
        removed = await self._store.remove(KIND, template.id)
        if template.alias:
            await self._store.remove(ALIAS, template.alias)
        return removed

    async def _claim(self, alias: str | None, template_id: str) -> None:
        """Take an alias. One whose template is gone or has another name by now was left by a crash, and is free."""
        if alias is None:
            return
        holder = await self.find(alias)
        if holder is not None and holder.id != template_id:
            raise AliasTaken(alias)
        there = await self._store.get(ALIAS, alias)

        def taken(value: dict[str, Any] | None) -> dict[str, Any]:
            if value != there:  # another request was quicker
                raise AliasTaken(alias)
            return {"id": template_id}

        await self._store.change(ALIAS, alias, taken)

    async def _require_room(self, template: Template) -> None:
        others = await self._store.all(KIND)
        others[template.id] = template.to_dict()
        if sum(len(orjson.dumps(value)) for value in others.values()) > ROOM:
            raise NoRoom
