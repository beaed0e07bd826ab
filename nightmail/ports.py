"""The ports of a local stack: which there are, whether they are free, and free ones where the setting says 0."""

import errno
import socket
from collections.abc import Iterable

from nightmail.complaint import Complaint
from runtime.settings import Settings

LISTENERS = ("api_port", "control_port", "smtp_port", "smtps_port", "mailbox_smtp_port", "mailbox_port", "valkey_port")


def choose_free(settings: Settings) -> Settings:
    """Settings with a free port for each that is 0. Free a moment ago: somebody may still be quicker."""
    wanted = [name for name in LISTENERS if getattr(settings, name) == 0]
    held = [socket.create_server((settings.host, 0)) for _ in wanted]  # held together, so that they differ
    chosen = {name: listener.getsockname()[1] for name, listener in zip(wanted, held, strict=True)}
    for listener in held:
        listener.close()
    return settings.model_copy(update=chosen)


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
