"""How long the send API waits for the control API: a change is waited for, a look is not."""

import asyncio
from datetime import timedelta

import pytest
from fastapi import FastAPI, Request

from api.errors import ApiError
from api.forward import Forwarder
from tests.fixtures.api_stack import bound, serving, url_of


def request(method, path, body=b""):
    """One that came in."""

    async def receive():
        return {"type": "http.request", "body": body}

    target = {"path": path, "raw_path": path.encode(), "query_string": b""}
    return Request({"type": "http", "method": method, "headers": [], **target}, receive)


async def test_a_change_outlasts_a_look(settings):
    """A control API that is out of breath makes no 503 of a change; a look is given up, for the queue knows it too."""
    go_on, app, listener = asyncio.Event(), FastAPI(), bound()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def slow():
        await go_on.wait()
        return {"id": "made"}

    ours = settings.model_copy(update={"control_url": url_of(listener)})
    forwarder = Forwarder(ours, look_up_within=timedelta(milliseconds=100))
    async with serving((app, "httptools", listener)):
        change = asyncio.create_task(forwarder.forward(request("POST", "/api-keys", b"{}")))
        with pytest.raises(ApiError) as refused:
            await forwarder.look_up(request("GET", "/"), "01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae")
        assert (refused.value.status, bool(refused.value.retry_after)) == (503, True)
        assert not change.done()
        go_on.set()
        assert (await change).body == b'{"id":"made"}'
        await forwarder.stop()


async def test_nobody_there(settings):
    """A control API that does not run is a 503 at once."""
    listener = bound()  # bound, and nobody listens
    forwarder = Forwarder(settings.model_copy(update={"control_url": url_of(listener)}))
    with pytest.raises(ApiError) as refused:
        await forwarder.forward(request("POST", "/api-keys", b"{}"))
    assert refused.value.status == 503
    await forwarder.stop()
    listener.close()
