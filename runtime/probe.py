"""The server behind runtime/metrics.py: `/metrics` for Prometheus and `/livez` for a health check."""

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name is the base class's)
        """A scrape is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def serve(host: str, port: int, *, alive: Callable[[], bool]) -> None:
    """Open the probe, in a daemon thread. `alive` answers /livez."""
    metrics = make_wsgi_app()

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/livez":
            return metrics(environ, start_response)  # type: ignore[no-any-return]
        well = alive()
        start_response("200 OK" if well else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [b'{"status":"ok"}' if well else b'{"status":"stuck"}']

    server = make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="probe", daemon=True).start()
