"""The control API process: the only listener that knows the database."""

from api.control import create_app
from history.chaos import Chaos
from history.queries import History
from nightmail.roles.budget import demand_room
from nightmail.roles.seal import demand_seal
from nightmail.serving import run as run_loop
from nightmail.serving import serve_http, stop_signal
from outbox.policy import Policy
from outbox.policy_store import PolicyStore
from outbox.prune import own_pruned_journal
from outbox.queue import Outbox
from outbox.suppression import SuppressionList
from runtime.connections import redis_async
from runtime.sealing import Seal
from runtime.settings import Settings

_QUEUE_REPLY = 2.0  # seconds: nobody's mail waits for this process


def run(settings: Settings) -> None:
    """Until SIGTERM."""
    settings = _with_own_login(settings)
    seal = demand_seal(settings)
    demand_room(settings, "control")
    run_loop(_serve(settings, seal))


def _with_own_login(settings: Settings) -> Settings:
    """Rebuilt, because `database` is remembered."""
    if settings.database_control_url is None:
        return settings
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return Settings(**given | {"database_url": settings.database_control_url})


async def _serve(settings: Settings, seal: Seal) -> None:
    stopping = stop_signal()
    redis = redis_async(settings, timeout=_QUEUE_REPLY)
    chaos = Chaos.open(settings)
    history = History.open(settings, gate=chaos.gate)
    policy = Policy(redis, settings)
    journal = own_pruned_journal(settings, "control")
    await policy.start()
    try:
        app = create_app(
            settings,
            policy=policy,
            policy_store=PolicyStore(redis, settings),
            seal=seal,
            suppression_list=SuppressionList(redis, settings, journal=journal),
            outbox=Outbox(redis, settings),
            history=history,
            chaos=chaos,
            redis=redis,
        )
        await serve_http(app, host=settings.host, port=settings.control_port, stopping=stopping)
    finally:
        await policy.stop()
        history.close()
        await journal.close()
        await redis.aclose()
