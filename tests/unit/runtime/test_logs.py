"""Logs are JSON lines without secrets."""

import asyncio
import json
import logging
import sys

import pytest
import structlog

from runtime import logs
from runtime.logs import fact, get, setup
from runtime.settings import Settings


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """Other tests of this process must not log into a stream that is gone."""
    monkeypatch.setattr(logs, "_facts", logs._Facts())
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers, root.level = handlers, level


TOKEN = "re_12345678_123456789012345678901234"


def lines_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_line_is_json_with_process_and_level(capsys):
    """One object a line: event, level, time, process, node."""
    setup(Settings(node="n1"), "api")
    get("test").info("mail.accepted", id="x", size=3)
    (line,) = lines_of(capsys)
    assert line["event"] == "mail.accepted"
    assert (line["level"], line["process"], line["node"], line["size"]) == ("info", "api", "n1", 3)
    assert line["timestamp"].endswith("Z")


def test_secrets_are_hidden(capsys):
    """Tokens anywhere, values under secret names, and credentials in addresses do not reach the log."""
    setup(Settings(), "api")
    get("test").warning("odd.request", authorization=f"Bearer {TOKEN}", text=f"key {TOKEN} in text", password="hunter2")
    get("test").warning("odd.store", url="postgresql://user:hunter2@db/mail")
    logging.getLogger("library").warning("calling with %s", TOKEN)
    shown = capsys.readouterr().err
    assert TOKEN not in shown
    assert "hunter2" not in shown
    assert shown.count("[redacted]") == 5


def test_levels_below_the_setting_are_dropped(capsys):
    """What is not asked for costs nothing."""
    setup(Settings(log_level="warning"), "api")
    get("test").info("not.shown")
    assert lines_of(capsys) == []


def test_exceptions_of_ours_are_one_line(capsys):
    """A traceback is a field, not loose text."""
    setup(Settings(), "api")
    try:
        raise ValueError("broken")
    except ValueError:
        get("test").error("thing.failed", exc_info=sys.exc_info())
    (line,) = lines_of(capsys)
    assert "ValueError: broken" in line["exception"]


async def test_facts_look_like_any_other_line(capsys):
    """A line of a hot path has the same fields, comes with the next turn of the loop, and obeys the level."""
    setup(Settings(node="n1"), "api")
    get("test").info("mail.accepted", id="x", size=3)
    fact("mail.accepted", id="x", size=3)
    fact("mail.accepted", id="y", size=4)
    fact("mail.tried", reply=f"250 {TOKEN} http://user:pass@there.test")
    await asyncio.sleep(0)
    slow, *quick, tried = lines_of(capsys)
    assert tried["reply"] == "250 [redacted] http://[redacted]there.test"
    assert [line["id"] for line in quick] == ["x", "y"]
    assert {name: type(value) for name, value in slow.items()} == {n: type(v) for n, v in quick[0].items()}
    assert quick[0]["timestamp"].endswith("Z")
    setup(Settings(log_level="warning"), "api")
    fact("not.shown")
    await asyncio.sleep(0)
    assert lines_of(capsys) == []
