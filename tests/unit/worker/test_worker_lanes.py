import pytest

from worker.lanes import PAUSE_EMPTY, PAUSE_FIRST, PAUSE_MOST, Pauses, plan


@pytest.mark.parametrize(
    ("due", "at_work", "deep", "free", "opened"),
    [
        (["a", "b"], {}, set(), 5, ["a", "b"]),
        (["a", "b", "c"], {}, set(), 2, ["a", "b"]),  # the longest waiting first
        (["a", "b"], {"a": 1}, {"a"}, 5, ["b", "a"]),  # a first channel for each before a second for any
        (["a", "b"], {"a": 1}, {"a"}, 1, ["b"]),
        (["a"], {"a": 1}, set(), 5, []),  # one channel holds all its work
        (["a"], {"a": 3}, {"a"}, 5, []),  # at most 3
        (["a"], {"a": 2}, {"a"}, 0, []),
        (["a"], {}, set(), -1, []),
        ([], {"a": 1}, {"a"}, 5, []),  # nothing due
    ],
)
def test_every_due_lane_gets_its_first_channel_before_any_gets_a_second(due, at_work, deep, free, opened):
    """Free channels go to lanes without one, then to lanes with more work than theirs can hold."""
    assert plan(due, at_work, deep=deep, free=free, most=3) == opened


def test_a_failing_lane_pauses_longer_and_longer():
    """The pause doubles up to a bound, and a success ends it."""
    pauses, now, lengths = Pauses(), 0.0, []
    for _ in range(10):
        pauses.failed("a", now=now)
        length = pauses.next_end(now=now)
        assert not pauses.over("a", now=now + length - 0.01)
        assert pauses.over("a", now=now + length)
        lengths.append(length)
        now += length
    assert lengths[:4] == [PAUSE_FIRST, 2 * PAUSE_FIRST, 4 * PAUSE_FIRST, 8 * PAUSE_FIRST]
    assert lengths[-1] == PAUSE_MOST
    pauses.worked("a")
    assert pauses.over("a", now=now)
    pauses.failed("a", now=now)
    assert pauses.next_end(now=now) == PAUSE_FIRST


def test_channels_that_lose_a_hop_together_count_as_one_failure():
    """Ten connections that are cut in one moment are no ten failures, or a hop away for a second waits for a minute."""
    pauses = Pauses()
    for n in range(10):
        pauses.failed("a", now=n / 1000)
    assert pauses.over("a", now=PAUSE_FIRST)


def test_an_empty_lane_pauses_for_a_moment():
    """A lane on which other workers are busy is not asked in a tight loop."""
    pauses = Pauses()
    pauses.empty("a", now=5.0)
    assert not pauses.over("a", now=5.0)
    assert pauses.next_end(now=5.0) == pytest.approx(PAUSE_EMPTY)


def test_the_book_of_pauses_does_not_grow():
    """What is long over is forgotten."""
    pauses = Pauses()
    for n in range(100):
        pauses.failed(f"{n}.test", now=0.0)
    pauses.forget(now=10 * PAUSE_MOST)
    assert len(pauses) == 0
