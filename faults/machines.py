"""Two machines with one queue; the disk of one vanishes with all that ran on it, in mid-load.

Clients reach both through a balancer. Archive and database are shared, as they are wherever there are two machines.
"""

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from faults.balancer import balanced
from faults.checker import Account, Kill
from faults.command import answer_of
from faults.drill import Drill
from faults.figures import Asked, Figure, figures_of, none_of
from faults.phases import Phase
from faults.runs import Result, Run, Setup
from faults.stores import Own, Stores, stores
from nightmail.client_details import ClientDetails
from nightmail.demo.own_stack import own_stack
from nightmail.stack_folder import StackFolder, read_environment
from outbox.journal import read_segment

_HOLD = 0.5  # seconds of deliveries that get stuck
_LEASE = "5"  # seconds, a quarter of the usual: what the lost machine had in hand is tried again after it
_DEAD = 5.0  # seconds for killed processes to be gone


@dataclass(frozen=True, slots=True)
class _Pair:
    """The machine that stays, with the mailbox of both, and the one that goes; and what both were started with."""

    stays: StackFolder
    goes: StackFolder
    variables: Mapping[str, str]


def lost_disk(asked: Asked) -> Run:
    """The drill."""

    def run(setup: Setup) -> Result:
        with ExitStack() as life:
            held = life.enter_context(stores(frozenset({Own.VALKEY, Own.POSTGRES})))
            pair = _pair(life, held)
            drill = Drill(pair.stays, setup.load, held, details=_before_both(life, pair))
            try:
                account, audited = asyncio.run(_run(drill, pair))
            finally:
                if setup.logs:
                    shutil.copytree(pair.stays.log, setup.logs, dirs_exist_ok=True)
        return Result([*figures_of(account, asked), *_audit_figures(audited, account), *drill.figures], drill.notes)

    return run


def _pair(life: ExitStack, held: Stores) -> _Pair:
    archive = life.enter_context(tempfile.TemporaryDirectory(prefix="nightmail-archive-"))
    variables = {
        **held.variables(),
        "NIGHTMAIL_SECRET": secrets.token_hex(32),
        "NIGHTMAIL_ARCHIVE_URL": archive,
        "NIGHTMAIL_LEASE": _LEASE,
    }
    stays = life.enter_context(own_stack({**variables, "NIGHTMAIL_NODE": "stays"}))
    hop = {
        "NIGHTMAIL_ROUTE": "smarthost",
        "NIGHTMAIL_SMARTHOST_HOST": "127.0.0.1",
        "NIGHTMAIL_SMARTHOST_PORT": read_environment(stays.stack_env)["NIGHTMAIL_MAILBOX_SMTP_PORT"],
        "NIGHTMAIL_SMARTHOST_TLS": "none",
    }
    goes = life.enter_context(own_stack({**variables, **hop, "NIGHTMAIL_NODE": "goes"}))
    return _Pair(stays, goes, variables)


def _before_both(life: ExitStack, pair: _Pair) -> ClientDetails:
    """The balancer's ports, with the key of the machine that stays: keys lie in the queue, for all machines."""
    here, there = (ClientDetails.from_environment(read_environment(f.local_env)) for f in (pair.stays, pair.goes))
    doors = [int(details.url.rpartition(":")[2]) for details in (here, there)]
    http = life.enter_context(balanced(doors))
    smtp = life.enter_context(balanced([here.smtp_port, there.smtp_port]))
    return replace(here, url=f"http://127.0.0.1:{http}", smtp_port=smtp)


async def _run(drill: Drill, pair: _Pair) -> tuple[Account, dict[str, Any]]:
    async def trouble(drill: Drill) -> None:
        with drill.phase(Phase.BASELINE):
            await asyncio.sleep(drill.seconds * 0.4)
        mailbox = drill.processes()["mailbox"]
        os.kill(mailbox, signal.SIGSTOP)  # so that the machine surely has mail in hand
        await asyncio.sleep(_HOLD)
        at, accepted = time.time(), await asyncio.to_thread(_vanish, pair.goes)
        os.kill(mailbox, signal.SIGCONT)
        drill.kills.append(Kill("machine", at, time.time()))
        drill.note("a machine and its disk are gone")
        drill.figures.append(Figure("in the journals that are gone", "> 0", str(accepted), accepted > 0))
        with drill.phase(Phase.FAULT):
            await asyncio.sleep(drill.seconds * 0.5)

    account = await drill.run(trouble)
    return account, await answer_of(pair.stays, pair.variables, "audit", "--json")


def _vanish(machine: StackFolder) -> int:
    """How many messages its journals said it had accepted."""
    state = machine.state() or {"pid": 0, "processes": []}
    pids = [state["pid"], *(process["pid"] for process in state["processes"] if process["pid"])]
    for pid in filter(None, pids):
        os.kill(pid, signal.SIGKILL)
    segments = machine.data_dir.glob("journal/*/*.log")
    headers = (header for segment in segments for _, header, _ in read_segment(segment))
    accepted = sum(len(header["messages"]) for header in headers if header["kind"] == "accepted")
    deadline = time.monotonic() + _DEAD
    while time.monotonic() < deadline and machine.data_dir.exists():
        shutil.rmtree(machine.data_dir, ignore_errors=True)  # again: the last of them may still be writing
    return accepted


def _audit_figures(audited: Mapping[str, Any], account: Account) -> list[Figure]:
    """What the machine that stays can prove without the journal that is gone."""
    known = audited["messages"]
    return [
        none_of("unaccounted for by the audit", audited["unaccounted"]),
        none_of("gaps that the audit met", len(audited["gaps"])),
        none_of("known to the lost journal alone", account.accepted - known),
    ]
