"""The probe of a process that serves no HTTP itself: `/metrics` for Prometheus and `/livez` for a health check.

Metrics are defined beside the code that counts; the probe only shows them.
"""

from collections.abc import Callable

from runtime.settings import Settings


def serve_probe(settings: Settings, *, alive: Callable[[], bool] = lambda: True) -> None:
    """Open the probe on `probe_port`, if there is one, in a daemon thread. `alive` answers /livez."""
    if settings.probe_port:
        from runtime.probe import serve  # noqa: PLC0415 - a restart waits for its imports: only what is used

        serve(settings.host, settings.probe_port, alive=alive)
