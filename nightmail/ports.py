"""The ports of a local stack: which there are, whether they are free, and free ones where the setting says 0."""

import errno
import random
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from nightmail.complaint import Complaint
from runtime.settings import Settings

LISTENERS = ("api_port", "control_port", "smtp_port", "smtps_port", "mailbox_smtp_port", "mailbox_port", "valkey_port")
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")  # Linux
_LOWEST, _TRIES = 10_000, 200


def choose_free(settings: Settings) -> Settings:
    """Settings with a free port for each that is 0. Free a moment ago: somebody may still be quicker."""
    wanted = [name for name in LISTENERS if getattr(settings, name) == 0]
    with ExitStack() as held:  # held together, so that they differ
        listeners = [held.enter_context(hold_free(settings.host)) for _ in wanted]
        chosen = {name: listener.getsockname()[1] for name, listener in zip(wanted, listeners, strict=True)}
    return settings.model_copy(update=chosen)


def hold_free(host: str) -> socket.socket:
    """A listener on a free port that no outgoing connection is ever given.

    One of those would hold the port of a process that was killed, and the process could not come back until it ends.
    """
    lowest = _lowest_outgoing()
    for port in random.sample(range(_LOWEST, lowest), _TRIES) if lowest - _LOWEST >= _TRIES else ():
        try:
            return socket.create_server((host, port))
        except OSError:
            continue
    return socket.create_server((host, 0))


def _lowest_outgoing() -> int:
    """Where the system's range of ports for outgoing connections begins; 0 where it does not say."""
    try:
        return int(_OUTGOING.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def demand_free(settings: Settings, names: Iterable[str]) -> None:
    """Complain about the ports of `names` that cannot be bound, each with its setting."""
    problems = [problem for name in names if (problem := _problem(settings, name))]
    if problems:
        raise Complaint("\n".join(problems))


def _problem(settings: Settings, name: str) -> str | None:
    port = getattr(settings, name)
    try:
        socket.create_server((settings.host, port)).close()
    except OSError as error:
        what = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be bound ({error.strerror})"
        return f"Port {port} on {settings.host} {what}. Choose another with NIGHTMAIL_{name.upper()}."
    return None
