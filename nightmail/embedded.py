"""The embedded stack: what `nightmail up` sets where nobody said otherwise, and which programs it runs."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from nightmail import valkey
from nightmail.ports import LISTENERS, choose_free
from nightmail.private import kept_secret
from runtime import sealing
from runtime.networks import parse_networks
from runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Program:
    """One process of the stack. Those of the lowest `stage` stop first and start last."""

    name: str
    command: tuple[str, ...]
    stage: int
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Those of a command of ours, after `nightmail`; none of another program."""
        ours = len(NIGHTMAIL)
        return self.command[ours:] if self.command[:ours] == NIGHTMAIL else ()


PACKAGES = Path(__file__).resolve().parent.parent
NIGHTMAIL = (sys.executable, "-P", "-m", "nightmail")  # -P: a folder named smtp where one happens to be is not ours
STAGES = ("listeners", "workers", "recorder", "mailbox", "store")
_STAGE_OF = {name: stage for stage, name in enumerate(STAGES)}

# What differs from production: mail stays here, any sender and recipient is taken, the database can be cut, webhooks
# may come to this machine, and a mailbox that was killed is back in a second, so nobody waits minutes to try it again.
DEFAULTS: Mapping[str, Any] = {
    "route": "mailbox",
    "retry_first": timedelta(seconds=1),
    "retry_max": timedelta(seconds=30),
    "verified_domains_only": False,
    "refuse_reserved_recipients": False,
    "chaos": True,
    "reachable_networks": parse_networks("127.0.0.0/8, ::1/128"),
}
_FOR_THE_MAILBOX = ("retry_first", "retry_max")


def child_environment(added: Mapping[str, str]) -> dict[str, str]:
    """Our own variables and `added`. The path lets a checkout run that was never installed."""
    return {**os.environ, "PYTHONPATH": str(PACKAGES), **added}


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack ready to start: its settings, the variables its processes get, and the processes."""

    settings: Settings
    environment: dict[str, str]
    store: Program | None  # None: the queue is somebody else's server (NIGHTMAIL_REDIS_URL)
    programs: tuple[Program, ...]

    @property
    def delivering(self) -> tuple[Program, ...]:
        """The programs that must not start before their next hop serves, or its mail is deferred."""
        return tuple(program for program in self.programs if program.stage == _STAGE_OF["workers"])

    @property
    def ports(self) -> dict[str, int]:
        """Ports that this stack listens on, by setting."""
        absent = set() if self.store else {"valkey_port"}
        if self.settings.route != "mailbox":
            absent |= {"mailbox_port", "mailbox_smtp_port"}
        return {name: getattr(self.settings, name) for name in LISTENERS if name not in absent}


def resolve(settings: Settings) -> Settings:
    """The settings with what an embedded stack adds. Whatever the environment sets explicitly stays."""
    data_dir = settings.data_dir.absolute()
    added = {name: value for name, value in DEFAULTS.items() if name not in settings.model_fields_set}
    if added.get("route", settings.route) != "mailbox":
        added = {name: value for name, value in added.items() if name not in _FOR_THE_MAILBOX}
    return choose_free(settings.model_copy(update={**added, "data_dir": data_dir}))


def prepare(settings: Settings) -> Stack:
    """Make the secrets and the Valkey configuration, and list the programs. The folder must be held."""
    if settings.secret is None:
        kept_secret(settings.data_dir / "secret")
    if settings.policy_key is None:
        kept_secret(settings.data_dir / sealing.FILE)
    environment = _environment(settings)
    store = None
    if "redis_url" not in settings.model_fields_set:
        folder = settings.data_dir / "valkey"
        configuration, password = valkey.write_configuration(folder, port=settings.valkey_port)
        valkey.cut_unwritten_tail(folder)
        environment["NIGHTMAIL_REDIS_URL"] = f"redis://:{password}@127.0.0.1:{settings.valkey_port}/0"
        command = (str(valkey.binary()), str(configuration))
        own = {name: value for name, value in valkey.ENVIRONMENT.items() if name not in os.environ}
        store = Program("valkey", command, _STAGE_OF["store"], tuple(own.items()))
    return Stack(Settings(**_parsed(settings, environment)), environment, store, _programs(settings))


def _environment(settings: Settings) -> dict[str, str]:
    """The variables that carry what `resolve` added."""
    names = ("data_dir", *DEFAULTS, *LISTENERS)
    return {f"NIGHTMAIL_{name.upper()}": _written(getattr(settings, name)) for name in names}


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value.total_seconds() if isinstance(value, timedelta) else value)


def _parsed(settings: Settings, environment: Mapping[str, str]) -> dict[str, Any]:
    explicit = {name: getattr(settings, name) for name in settings.model_fields_set}
    return explicit | {name.removeprefix("NIGHTMAIL_").lower(): value for name, value in environment.items()}


def _programs(settings: Settings) -> tuple[Program, ...]:
    roles: list[tuple[str, tuple[str, ...], str]] = [
        ("api", ("api",), "listeners"),
        ("control", ("control",), "listeners"),
        ("smtp", ("smtp",), "listeners"),
        *((f"worker-{n}", ("worker",), "workers") for n in range(1, settings.workers + 1)),
        ("chores", ("worker", "--queue", "chores"), "workers"),
        ("webhooks", ("worker", "--queue", "webhooks"), "workers"),
        ("ticker", ("ticker",), "workers"),
        ("recorder", ("recorder",), "recorder"),
    ]
    if settings.route == "mailbox":
        roles.append(("mailbox", ("mailbox", "serve"), "mailbox"))
    programs = [Program(name, (*NIGHTMAIL, *words), _STAGE_OF[stage]) for name, words, stage in roles]
    return tuple(_with_probe(program, settings, at) for at, program in enumerate(programs))


def _with_probe(program: Program, settings: Settings, at: int) -> Program:
    """One probe port cannot serve all: each process gets its own, counted up from the setting."""
    if not settings.probe_port:
        return program
    return replace(program, environment=(("NIGHTMAIL_PROBE_PORT", str(settings.probe_port + at)),))
