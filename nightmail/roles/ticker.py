"""The ticker process."""

from runtime.metrics import serve_probe
from runtime.settings import Settings
from worker import ticker


def run(settings: Settings) -> None:
    """Until SIGTERM."""
    serve_probe(settings)
    ticker.run(settings)
