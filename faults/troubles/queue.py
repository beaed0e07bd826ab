"""The queue is killed, hung, full, read-only, busy. Accepting goes on into the journal; delivering waits."""

import asyncio
import contextlib
import threading
import time

import redis

from faults.drill import Drill
from faults.figures import at_most
from faults.troubles.rounds import Breakage, outage
from tests.fixtures.valkey import ValkeyServer

_FULL_AT = 64 * 1024  # bytes that fit until it is full
_BUSY_AFTER = 200  # milliseconds of a script until others are answered BUSY
_NOBODY = ("127.0.0.1", "1")  # a master that does not exist
_RESUMED = 5.0  # seconds after there is room again until mail is accepted again


def _valkey(drill: Drill) -> ValkeyServer:
    if drill.stores.valkey is None:
        raise LookupError("this drill needs a Valkey of its own")
    return drill.stores.valkey


def _kill(drill: Drill) -> None:
    _valkey(drill).kill()


def _start(drill: Drill) -> None:
    _valkey(drill).start()


def _pause(drill: Drill) -> None:
    _valkey(drill).pause()


def _resume(drill: Drill) -> None:
    _valkey(drill).resume()


def _fill(drill: Drill) -> None:
    with _valkey(drill).client() as admin:
        used = admin.info("memory")["used_memory"]
        admin.config_set("maxmemory", used + _FULL_AT)


def _make_room(drill: Drill) -> None:
    with _valkey(drill).client() as admin:
        admin.config_set("maxmemory", 0)


def _demote(drill: Drill) -> None:
    with _valkey(drill).client() as admin:
        admin.replicaof(*_NOBODY)


def _promote(drill: Drill) -> None:
    with _valkey(drill).client() as admin:
        admin.replicaof("NO", "ONE")


def _occupy(drill: Drill) -> None:
    server = _valkey(drill)
    with server.client() as admin:
        admin.config_set("busy-reply-threshold", _BUSY_AFTER)
    threading.Thread(target=_endless, args=(server,), name="busy-script", daemon=True).start()


def _endless(server: ValkeyServer) -> None:
    """A script without end, as an administrator may start one by mistake."""
    with redis.Redis(port=server.port, socket_timeout=600) as admin, contextlib.suppress(redis.RedisError):
        admin.eval("while true do end", 0)


def _release(drill: Drill) -> None:
    with _valkey(drill).client() as admin:
        admin.script_kill()


killed = outage(Breakage("queue killed", _kill, _start))
hung = outage(Breakage("queue hung", _pause, _resume))
full = outage(Breakage("queue full", _fill, _make_room))
readonly = outage(Breakage("queue read-only", _demote, _promote))
busy = outage(Breakage("queue busy", _occupy, _release))


async def floor(drill: Drill) -> None:
    """The queue is full, and the floor under its memory is in force: mail is refused, and taken again in time."""
    await asyncio.sleep(drill.seconds * 0.4)
    await asyncio.to_thread(_fill, drill)
    drill.note("queue full: begin")
    await asyncio.sleep(drill.seconds * 0.3)
    await asyncio.to_thread(_make_room, drill)
    end = time.time()
    drill.note("queue full: end")
    await asyncio.sleep(drill.seconds * 0.25)
    after = [r.accepted_at for r in drill.ledger.receipts.values() if r.begun_at > end]
    drill.figures.append(at_most("accepted again", _RESUMED, min(after, default=end + drill.seconds) - end, unit="s"))
