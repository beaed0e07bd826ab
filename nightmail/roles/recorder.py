"""The recorder process."""

from history import recorder
from runtime.settings import Settings


def run(settings: Settings) -> None:
    """Until SIGTERM."""
    recorder.run(settings)
