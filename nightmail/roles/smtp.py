"""The SMTP submission process."""

from nightmail.roles.accepting import accepting
from nightmail.serving import run as run_loop
from nightmail.serving import stop_signal
from runtime.garbage import collect_seldom
from runtime.metrics import serve_probe
from runtime.settings import Settings
from smtp.server import SubmissionServer


def run(settings: Settings) -> None:
    """Until SIGTERM."""
    run_loop(_serve(settings))


async def _serve(settings: Settings) -> None:
    stopping = stop_signal()
    async with accepting(settings, "smtp") as parts:
        server = SubmissionServer(settings, acceptor=parts.acceptor, policy=parts.policy, ratelimiter=parts.ratelimiter)
        await server.start()
        collect_seldom()
        serve_probe(settings)
        await stopping.wait()
        await server.stop()
