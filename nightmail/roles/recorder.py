"""The recorder process."""

from history import recorder
from nightmail.roles.budget import demand_room
from runtime.settings import Settings


def run(settings: Settings) -> None:
    """Until SIGTERM."""
    demand_room(settings, "recorder")
    recorder.run(settings)
