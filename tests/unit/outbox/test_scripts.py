"""What is put in front of a script."""

import re
from importlib import resources

import pytest

from outbox.scripts import source

_FOLDER = resources.files("outbox") / "lua"
_PRELUDE = (_FOLDER / "_prelude.lua").read_text()
_NAMES = sorted(each.name.removesuffix(".lua") for each in _FOLDER.iterdir() if not each.name.startswith("_"))
_SHARED = re.findall(r"^local (?:function )?(\w+)", _PRELUDE, re.MULTILINE)


def _defined(text):
    return re.findall(r"^local (?:function )?(\w+)", text, re.MULTILINE)


@pytest.mark.parametrize("name", _NAMES)
def test_what_a_script_names_is_defined_before(name):
    """Every shared function stands in front of all who call it."""
    text, _ = source(name)
    assert [each for each in _defined(text) if each in _SHARED][:2] == ["P", "key"]
    code = re.sub(r"--.*|'[^']*'", lambda found: " " * len(found[0]), text)
    for each in _SHARED:
        first = re.search(rf"\b{each}\b", code)
        assert first is None or code[: first.start()].endswith(("local ", "local function ")), each


def test_a_script_gets_no_more_than_it_needs():
    """Functions that it does not name, and that none of those names, are not made at its calls."""
    assert _defined(source("probe")[0]) == ["P", "key"]
    assert _defined(source("record")[0]) == ["P", "key", "record"]
    assert [each for each in _SHARED if each not in _defined(source("suppress")[0])][:2] == ["split", "size"]


@pytest.mark.parametrize("name", _NAMES)
def test_every_script_looks_at_the_mark_first(name):
    """A queue that lost its memory is left alone by all of them."""
    text, _ = source(name)
    assert text.index("LOST the queue lost its memory") < text.index((_FOLDER / f"{name}.lua").read_text())
