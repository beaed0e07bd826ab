"""The mailbox process."""

from nightmail.mailbox import process
from nightmail.serving import run as run_loop
from runtime.settings import Settings


def run(settings: Settings) -> None:
    """Until SIGTERM."""
    run_loop(process.run(settings))
