"""The recorder process."""

from history import recorder
from nightmail.roles.behind import RECORDER, stand_behind
from nightmail.roles.budget import demand_room
from runtime.settings import Settings


def run(settings: Settings) -> None:
    """Until SIGTERM."""
    stand_behind(RECORDER)
    demand_room(settings, "recorder")
    recorder.run(settings)
