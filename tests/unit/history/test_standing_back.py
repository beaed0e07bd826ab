"""The recorder lets mail go first on a full machine, and never for long."""

from datetime import timedelta

import pytest

from history.standing_back import StandingBack, processor_time
from tests.fixtures.mail import NOON


def standing_back(*reads, now=NOON, processors=2):
    readings = iter(reads)
    return StandingBack(now=lambda: now, read=lambda: next(readings), processors=processors)


@pytest.mark.parametrize(
    ("idle", "time", "goes_on"),
    [
        (0, 20, True),  # nothing was idle
        (4, 20, True),
        (5, 20, False),  # half of one of two processors: there is room for the recorder
        (20, 20, False),
        (0, 0, False),  # no time passed: nothing is known
    ],
)
def test_rests_on_a_full_machine(idle, time, goes_on):
    """What was idle since the rest began decides."""
    back = standing_back((100, 1000), (100 + idle, 1000 + time))
    back.begin()
    assert back.goes_on(NOON - timedelta(seconds=1)) is goes_on


def test_what_is_idle_of_many_processors_is_room():
    """The recorder is one process, in nobody's way where a whole processor has nothing to do."""
    for idle, goes_on in ((1, True), (2, False)):
        back = standing_back((0, 0), (idle, 64), processors=16)
        back.begin()
        assert back.goes_on(NOON) is goes_on


def test_each_question_asks_about_the_time_since_the_last():
    """A machine that was full, and is not any more, is seen at once."""
    back = standing_back((0, 0), (0, 20), (20, 40))
    back.begin()
    assert back.goes_on(NOON)
    assert not back.goes_on(NOON)


@pytest.mark.parametrize("recorded_until", [None, NOON - timedelta(seconds=5)])
def test_never_far_behind(recorded_until):
    """Who has recorded nothing yet, or is seconds behind, records, however full the machine is."""
    back = standing_back((0, 0), (0, 20))
    back.begin()
    assert not back.goes_on(recorded_until)


def test_without_figures_nobody_stands_back():
    """Where no system tells how busy it is."""
    back = standing_back(None, None)
    back.begin()
    assert not back.goes_on(NOON)


def test_this_machine_tells():
    """Linux does, in ticks that only grow."""
    first = processor_time()
    again = processor_time()
    assert first is None or (again is not None and again[1] >= first[1] > 0)
