"""The stack of these files has never seen its database, and whatever they do must work all the same.

Each file says how its DATABASE is away: it "hangs" when somebody connects, or it is "stopped".
"""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.fixtures.stack import UpStack


@pytest.fixture(scope="module")
def stack(request, tmp_path_factory):
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        if request.module.DATABASE == "hangs":
            place.listen()
        nowhere = f"postgresql://nightmail@127.0.0.1:{place.getsockname()[1]}/nightmail"
        with UpStack(tmp_path_factory.mktemp("stack"), database_url=nowhere) as stack:
            yield stack


@pytest.fixture
def receiver():
    """An HTTP server: its URL, and what it was sent."""
    requests = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append((self.headers, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Keep) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", requests
        server.shutdown()
        thread.join()
