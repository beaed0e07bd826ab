"""Writes docs/configuration.md from the settings: `python -m nightmail.configuration_page`. A test holds it current."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

import runtime.settings
from nightmail.embedded import DEFAULTS
from runtime.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

_HEAD = """# Configuration

Every setting is an environment variable, read once at the start of each process and validated before anything else.
`nightmail check` shows what is in force, less the secrets, and tries the stores. This page is made from
`runtime/settings.py` by `python -m nightmail.configuration_page`.

Durations are in seconds (`20`, `0.25`) or in ISO 8601 (`PT20S`). Switches take `true` and `false`. `nightmail up` sets
what the last column says, unless the environment does; a port of `0` lets it choose a free one.
"""
_UNITS = {"max_message_bytes": "bytes", "rate_limit": "requests/s"}


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(f"\n## {title}\n\n{_table(names)}" for title, names in _sections())


def _sections() -> Iterator[tuple[str, list[str]]]:
    """The sections that comments mark in runtime/settings.py, each with its settings in order."""
    source = Path(runtime.settings.__file__).read_text()
    body = source[source.index("class Settings") :]
    title = ""
    names: list[str] = []
    for heading, name in re.findall(r"^    # (.+)$|^    (\w+): .*$", body, re.MULTILINE):
        if heading:
            if names:
                yield title, names
            title, names = heading, []
        elif name in Settings.model_fields:
            names.append(name)
    yield title, names


def _table(names: list[str]) -> str:
    rows = ["| Variable | Default | Meaning | `nightmail up` |", "| --- | --- | --- | --- |"]
    return "\n".join([*rows, *(_row(name, Settings.model_fields[name]) for name in names)]) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    embedded = f"`{_value(DEFAULTS[name])}`" if name in DEFAULTS else ""
    meaning = f"{field.description}{_choices(field)}"
    return f"| `NIGHTMAIL_{name.upper()}` | {_default(name, field)} | {meaning} | {embedded} |"


def _choices(field: FieldInfo) -> str:
    words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return f" One of {', '.join(f'`{word}`' for word in words)}." if words else ""


def _default(name: str, field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "the host name"
    if field.default is None:
        return "unset"
    value = _value(field.default)
    unit = "s" if isinstance(field.default, timedelta) else _UNITS.get(name, "")
    return f"`{value}` {unit}".strip() if value else "empty"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.3f}".rstrip("0").rstrip(".")
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page())
