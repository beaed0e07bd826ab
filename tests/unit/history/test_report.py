from history.report import RecorderState, Report


class Progress:
    """Takes what is published."""

    def publish(self, checkpoint, state, error):
        """Take it."""


def test_a_recorder_that_hangs_is_said_to_wait():
    """Half the time a hanging database is waited for is enough to tell; a word ends it, and an error told stays."""
    now = [0.0]
    report = Report(Progress(), monotonic=lambda: now[0])
    report.tell(7, RecorderState.OK)
    now[0] = 5.0
    assert report.current() == (7, RecorderState.OK, "")
    now[0] = 6.0
    assert report.current() == (7, RecorderState.WAITING, "the database has not answered for 6 s")
    report.tell(8, RecorderState.GAP, "event 9 is missing")
    now[0] = 60.0
    assert report.current() == (8, RecorderState.GAP, "event 9 is missing")
