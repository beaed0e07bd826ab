import threading

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import OperationalError

from history.recording import Recording
from history.report import RecorderState, Report
from outbox.errors import Gap


class Stop(threading.Event):
    """Notes how long the loop wants to pause, and does not."""

    def __init__(self):
        super().__init__()
        self.pauses = []

    def wait(self, timeout=None):
        self.pauses.append(timeout)
        return self.is_set()


class Script:
    """A recorder that does what it is told, step by step, and then stops the loop."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.checkpoint = 7
        self.recorded_until = None
        self.mended = 0
        self.can_mend = True
        self.stop = Stop()

    def record_batch(self):
        step = self.steps.pop(0)
        if not self.steps:
            self.stop.set()
        if isinstance(step, Exception):
            raise step
        return step

    def mend(self):
        self.mended += 1
        return self.can_mend


class Word:
    """Remembers what was published."""

    def __init__(self):
        self.published = []

    def publish(self, checkpoint, state, error):
        self.published.append((checkpoint, state, error))


def play(*steps, newest=lambda: 7, can_mend=True, **options):
    script = Script(*steps)
    script.can_mend = can_mend
    report = Report(Word())
    told = []
    tell = report.tell
    report.tell = lambda checkpoint, state, error="": told.append((state, error)) or tell(checkpoint, state, error)
    loop = Recording(
        script, wait=lambda after, seconds: None, newest=newest, report=report, stop=script.stop, **options
    )
    loop.run()
    return script, told


class Missing(Exception):
    sqlstate = "42P01"


AWAY = OperationalError("SELECT secret", {}, ConnectionRefusedError("host=db.example password=hunter2"))
DROPPED = OperationalError("SELECT 1", {}, Missing())


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (AWAY, RecorderState.WAITING, "connection refused or lost"),
        (Gap(8, 12), RecorderState.GAP, "event 8 is missing, the next one is 12"),
        (RedisConnectionError("host=queue.example"), RecorderState.WAITING, "the queue is away"),
        (ValueError("archive segment is damaged"), RecorderState.WAITING, "ValueError"),
    ],
    ids=["database away", "gap", "queue away", "surprise"],
)
def test_trouble_is_told_in_short_words_and_tried_again(error, state, words):
    """Whatever fails is told without addresses or secrets, and the loop goes on."""
    script, told = play(error, 0)
    assert told == [(state, words), (RecorderState.OK, "")]
    assert script.steps == []


def test_a_failing_database_is_asked_at_most_twice_a_second():
    """However the database fails, the loop pauses half a second after each try."""
    script, _ = play(AWAY, AWAY, AWAY, 0)
    assert script.stop.pauses[:3] == [0.5, 0.5, 0.5]


def test_a_trickle_is_gathered_and_a_flood_is_not():
    """While few events wait the recorder pauses a moment for more. While many do it goes on, however small a batch is.

    Batches are small far behind too: those of large mail, and those of a quiet installation's archive.
    """
    waiting = iter([5, 1000, 499, 1000])
    script, _ = play(5, 10, 1000, 0, newest=lambda: 7 + next(waiting))
    assert script.stop.pauses == [0.5, 0.5]


def test_news_after_a_rest_is_gathered():
    """What follows a lone event within a moment, as the end of its delivery, is recorded with it."""
    script, _ = play(0, 2, newest=lambda: 8)
    assert script.stop.pauses == [0.5, 0.5]


def test_without_news_nothing_is_gathered():
    """An idle recorder looks at the checkpoint again as soon as its wait is over: tables may have been dropped."""
    script, _ = play(0, 0, 0, newest=lambda: 7)
    assert script.stop.pauses == []


def test_missing_tables_are_mended_and_refilled():
    """When tables are missing they are made at once, and the recorder says `rebuilding` until it has caught up."""
    script, told = play(DROPPED, 1000, 1000, 0)
    assert script.mended == 1
    assert [state for state, _ in told] == [RecorderState.REBUILDING] * 2 + [RecorderState.OK]


def test_what_mending_does_not_make_is_waited_for():
    """A missing column of a table that is there is made by nobody: the recorder says so, and pauses after each try."""
    script, told = play(DROPPED, DROPPED, 0, can_mend=False)
    assert told[:2] == [(RecorderState.WAITING, "tables missing or unknown to us (42P01)")] * 2
    assert script.stop.pauses[:2] == [0.5, 0.5]
    assert script.checkpoint == 7, "what was recorded is still there"
    assert told[-1] == (RecorderState.OK, "")


def test_dropped_tables_stay_dropped_while_the_chaos_switch_says_so():
    """While chaos keeps the tables away nobody makes them, and the recorder waits."""
    script, told = play(DROPPED, DROPPED, 0, may_mend=lambda: False)
    assert script.mended == 0
    assert script.checkpoint == 0, "how far behind it is, is all of it"
    assert told[0] == (RecorderState.WAITING, "tables missing or unknown to us (42P01)")


def test_the_report_is_published_when_it_changes():
    """A new word reaches the queue without waiting for the next second."""
    word = Word()
    published = threading.Event()
    publish = word.publish
    word.publish = lambda *entry: (publish(*entry), entry[1] == "gap" and published.set())
    with Report(word) as report:
        report.tell(7, RecorderState.GAP, "event 8 is missing")
        assert published.wait(0.9)
    assert word.published[-1] == (7, RecorderState.GAP, "event 8 is missing")
