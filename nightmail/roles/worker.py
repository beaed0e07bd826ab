"""A worker process: of deliveries (`drain`), of chores, or of webhooks."""

from typing import Literal

from nightmail.roles.behind import CHORES, stand_behind
from nightmail.roles.seal import demand_seal
from runtime.metrics import serve_probe
from runtime.settings import Settings
from worker import process


def run(settings: Settings, queue: Literal["drain", "chores", "webhooks"]) -> None:
    """Until SIGTERM."""
    if queue != "chores":
        demand_seal(settings)
    else:
        stand_behind(CHORES)
    serve_probe(settings)
    process.run(settings, queue)
