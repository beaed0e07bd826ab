"""The send API process."""

from api import doorkeeper
from api.forward import Forwarder
from api.request_keeper import RequestKeeper
from api.send import create_app
from nightmail.roles.accepting import accepting
from nightmail.serving import run as run_loop
from nightmail.serving import serve_http, stop_signal
from outbox.hits import Hits
from outbox.request_log import RequestLog
from runtime.garbage import collect_seldom
from runtime.outside import Outside
from runtime.settings import Settings


def run(settings: Settings) -> None:
    """Until SIGTERM."""
    run_loop(_serve(settings))


async def _serve(settings: Settings) -> None:
    stopping = stop_signal()
    forwarder = Forwarder(settings)
    outside = Outside(settings.reachable_networks)
    async with accepting(settings, "api") as parts, RequestKeeper(RequestLog(parts.redis, settings)) as keeper:
        hits = Hits(parts.redis, settings)
        app = create_app(
            settings,
            acceptor=parts.acceptor,
            policy=parts.policy,
            outbox=parts.outbox,
            redis=parts.redis,
            forwarder=forwarder,
            ratelimiter=parts.ratelimiter,
            outside=outside,
            keeper=keeper,
            hits=hits,
        )
        collect_seldom()
        shared = settings.api_processes > 1
        await serve_http(
            app,
            host=settings.host,
            port=settings.api_port,
            stopping=stopping,
            shared=shared,
            protocol=doorkeeper.protocol(parts.acceptor),
        )
        await hits.stop()
    await outside.close()
    await forwarder.stop()
